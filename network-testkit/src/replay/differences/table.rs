//! The table.

use super::Difference;

/// Every difference by design, by code.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        code: "D01",
        original: "A listener that declines is asked a second time, with bare addresses, and the \
            connect fails with the second answer.",
        ours: "A decline is final: the listener is asked once, and the connect fails with \
            that answer.",
        why: "One attempt is one question; a handler may count or charge.",
        check: "The second `onAccept` (or the `onConnect` of a backend) and the connect's \
            error. Checked: one `on_accept`, and the first answer in the error; a trace \
            that shows a decline and one question only differs.",
    },
    Difference {
        code: "D02",
        original: "Where that second question is answered with yes, or a route was lost, connect \
            gives a connection whose far end never hears of it.",
        ours: "The connect fails, or the connection is whole at both ends.",
        why: "A connection that loses everything is worse than none.",
        check: "The `onAccept`, `onOpen` and return between bare addresses, and calls on that \
            connection. Checked: an error, or an `on_accept` with the instance and both \
            `on_open`.",
    },
    Difference {
        code: "D03",
        original: "After one half closes, the other still sends.",
        ours: "Both halves close; a send fails with `SendError::Closed`.",
        why: "A connection has one state.",
        check: "The ack of a send after the close, and the `onReceive` that made it. Checked: \
            `Closed`, not delivered.",
    },
    Difference {
        code: "D04",
        original: "Closing the other half fails with the text of an inner store.",
        ours: "Closing again changes nothing and is no error.",
        why: "Both ends may close at once.",
        check: "That error. Checked: the close returns.",
    },
    Difference {
        code: "D05",
        original: "A revoke calls `onClose` on both ends, and both halves still work.",
        ours: "Both halves are closed.",
        why: "As D03.",
        check: "As D03, where the connection was closed by a revoke.",
    },
    Difference {
        code: "D06",
        original: "Revoking the port that connected closes nothing.",
        ours: "A revoke closes every connection of the port, dialed and accepted.",
        why: "The port is what a connection belongs to.",
        check: "Our `on_close` at the revoke, with the reason that the port was revoked, and \
            later acks; over IBC, that the chain hears of it. Checked: both ends are told, and \
            sends fail.",
    },
    Difference {
        code: "D07",
        original: "Sends without an ack stay open after a close or revoke, and may return a late \
            ack.",
        ours: "Each is told at the close: `SendError::AckLost`, with what became of the \
            record.",
        why: "Nobody waits for ever, and nobody guesses.",
        check: "The late ack, or the wait for it. Checked: `AckLost` that knows the delivery, \
            no later than the close. On an IBC channel, where the original tells of the close: the \
            words of that error. Checked: `AckLost`, whatever became of the record.",
    },
    Difference {
        code: "D08",
        original: "The reason of every close is the text `closed-by-finalizer`.",
        ours: "`CloseReason` says who closed, and why.",
        why: "A handler can tell an intended close from a failure.",
        check: "That text as the reason. Checked: the two ends of one close agree, `Local` \
            with `Remote`, `Revoked` with `RemoteRevoked`.",
    },
    Difference {
        code: "D09",
        original: "A connect whose port is revoked meanwhile returns undefined, or a connection \
            on a revoked port.",
        ours: "It fails, and an undecided listener is told by `on_reject`.",
        why: "A revoked port has no connections.",
        check: "The `onOpen`, `onClose` and return of that connect. Checked: an error that the \
            port was revoked or does not listen.",
    },
    Difference {
        code: "D10",
        original: "Two binds of one name at once: one fails with the text of an inner store.",
        ours: "One fails with `BindError::AlreadyBound`.",
        why: "Binds go one after the other.",
        check: "The words of that error. Checked: its kind.",
    },
    Difference {
        code: "D11",
        original: "Two revokes at once: one fails with a text that depends on the schedule.",
        ours: "The second fails with `RevokeError::AlreadyRevoked`.",
        why: "Nothing is left to do for it.",
        check: "The words of that error. Checked: its kind.",
    },
    Difference {
        code: "D12",
        original: "If `onRemove` or `onRevoke` throws, a revoke fails half done, and a second one \
            finishes it.",
        ours: "A revoke is done whatever those do, and the name is free.",
        why: "Who is told of an end cannot hold it up.",
        check: "The error, the second revoke's success, and what is done with the name \
            meanwhile. Checked: the revoke returns, the second is `AlreadyRevoked`, a bind \
            gives a new port that listens.",
    },
    Difference {
        code: "D13",
        original: "An error of a handler that reads like a missing method is swallowed, and send \
            gives undefined.",
        ours: "Every error of a handler is a refusal.",
        why: "Words decide nothing.",
        check: "That undefined. Checked: `SendError::Refused` with the handler's words.",
    },
    Difference {
        code: "D14",
        original: "Without `onReceive`, send gives undefined.",
        ours: "The ack is empty.",
        why: "An ack is bytes.",
        check: "That undefined. Checked: an empty ack.",
    },
    Difference {
        code: "D15",
        original: "An `onAccept` that returns no handler makes a connection all the same.",
        ours: "`on_accept` returns a handler or a refusal.",
        why: "The type says so.",
        check: "Nothing: such scenarios are not applicable.",
    },
    Difference {
        code: "D16",
        original: "An echo kit remembers one close for all of its connections.",
        ours: "Each connection is on its own.",
        why: "Handlers are shared.",
        check: "The error of sends and closes on others. Checked: they are acked and closed.",
    },
    Difference {
        code: "D17",
        original: "A protocol handler cannot be unregistered.",
        ours: "Dropping the `Registration` unregisters.",
        why: "A guard can be given back.",
        check: "The error, and routes that stay. Checked: the route is gone.",
    },
    Difference {
        code: "D18",
        original: "Registering with one taken prefix leaves those before it registered.",
        ours: "All patterns are registered, or none.",
        why: "A failure leaves nothing behind.",
        check: "Binds under those prefixes. Checked: no backend takes them.",
    },
    Difference {
        code: "D19",
        original: "A revoked port object can take the listener of the new port of its name out of \
            the routes.",
        ours: "A revoked port changes nothing.",
        why: "Its name is another port's.",
        check: "As D02, at the connect after it. Checked: the new port is asked.",
    },
    Difference {
        code: "D20",
        original: "Acks that are no strings are coerced; typed arrays fail.",
        ours: "Records and acks are bytes.",
        why: "Any bytes, never a conversion.",
        check: "The refusal of a typed array. Checked: it arrives as it is. Numbers, arrays \
            and records as acks are not applicable.",
    },
    Difference {
        code: "D21",
        original: "100,000 characters for a packet; acks fail at some size by the stack.",
        ours: "`Limits::max_record_len` and `Limits::max_ack_len`.",
        why: "A limit is a setting that the other side is told.",
        check: "The words of the errors. Checked: their kinds; replays run with limits of \
            100,000 and 131,072 bytes.",
    },
    Difference {
        code: "D22",
        original: "If `onListen` throws, addListener fails and the listener stays in place. A \
            replaced listener is removed before the new one is asked.",
        ours: "A listener that refuses does not listen. The new one is asked first, so that \
            the one before can stay.",
        why: "An error leaves what was there.",
        check: "Calls of the listener that refused, and the order of `onRemove` and \
            `onListen`. Checked: nobody listens, or the one before answers.",
    },
    Difference {
        code: "D23",
        original: "After removeListener an open attempt fails with the text of an inner store.",
        ours: "It is answered with `Rejection::NotListening`.",
        why: "The dialer can tell what happened.",
        check: "The words of that error. Checked: its kind.",
    },
    Difference {
        code: "D24",
        original: "A revoke closes open attempts and tells nobody.",
        ours: "An attempt that comes to core after it is answered with \
            `Rejection::NotListening`.",
        why: "An attempt that the listener never saw is none that it must be told of.",
        check: "The error of accepting it. Checked: `NotListening`.",
    },
    Difference {
        code: "D25",
        original: "The routes of an address repeat entries.",
        ours: "An endpoint has one best route.",
        why: "There is nothing to choose among equals.",
        check: "The repeats. Checked: the rest, in the order in which our routes take over \
            from each other.",
    },
    Difference {
        code: "D26",
        original: "Binds that need none use up port numbers, failed connects use up instance \
            numbers.",
        ours: "Only what is made takes a number.",
        why: "Numbers are names, nothing else.",
        check: "Other numbers in generated names. Checked: one name is one thing throughout, \
            and no number differs before one was used up.",
    },
    Difference {
        code: "D27",
        original: "Only the last of several hops counts.",
        ours: "All hops count; a host refuses to connect over more than one.",
        why: "Otherwise a channel opens elsewhere.",
        check: "The hops of a decoded address. Checked: all of them, in order. And the channel over \
            the last hop: its opening, `onOpen`, return and addresses. Checked: the connect's error.",
    },
    Difference {
        code: "D28",
        original: "After the chain has closed a channel, a send still goes down to it, and late \
            acks fail.",
        ours: "As D03. A late ack is heard, and nobody waits for it.",
        why: "As D03.",
        check: "That `sendPacket` and the words of the error, the error of that ack. Checked: \
            `SendError::Closed`, and that the chain hears of no packet.",
    },
    Difference {
        code: "D29",
        original: "A handler that throws leaves an IBC packet without any ack.",
        ours: "A refusal is an error acknowledgement (ICS-04).",
        why: "The sender would wait for its timeout.",
        check: "That the chain hears of an ack. Checked: it is the envelope of an error with the \
            handler's words, of that packet.",
    },
    Difference {
        code: "D30",
        original: "An IBC bind that the chain refused cannot be tried again.",
        ours: "A bind that fails leaves nothing.",
        why: "As D18.",
        check: "The words of the second error, and that the host is asked again. Checked: it \
            answers as before.",
    },
    Difference {
        code: "D31",
        original: "A declined IBC attempt is an unhandled rejection, and the chain is told \
            nothing.",
        ours: "The chain is told: the channel's opening is refused, or the channel is closed if \
            its port was revoked after it was accepted.",
        why: "The other side waits otherwise.",
        check: "That the chain hears of it, and, before a revoke, our `on_accept`; the error of a \
            try where nobody listens. Checked: the refusal or the close of that channel.",
    },
    Difference {
        code: "D32",
        original: "Encoding an IBC address without an order drops version and channel; a `\\x2f` \
            in a version becomes a slash.",
        ours: "Nothing is dropped: it is an error. A backslash before `x2f` or `x5c` is \
            written `\\x5c`, so that every version comes back as it was.",
        why: "An address must say what it was made of.",
        check: "The addresses of such vectors. Checked: the error, or the same parts after a \
            round trip.",
    },
    Difference {
        code: "D34",
        original: "A connect to nobody fails with the text of an inner store.",
        ours: "`Rejection::NotListening`.",
        why: "As D23.",
        check: "The words of that error. Checked: its kind.",
    },
    Difference {
        code: "D35",
        original: "Binding a bound name gives the same port.",
        ours: "`BindError::AlreadyBound`; a program keeps the port that it has.",
        why: "Two that bind one name do not know of each other.",
        check: "The port that is given again, and the backend's call for it. Checked: the \
            error; the scenario goes on with the port that has the name.",
    },
    Difference {
        code: "D36",
        original: "Connections and attempts are kept for ever.",
        ours: "Nothing of a connection outlives it.",
        why: "Memory is bounded.",
        check: "Nothing: no trace shows it.",
    },
    Difference {
        code: "D37",
        original: "`onError` is never called.",
        ours: "A backend that cannot listen any more calls it.",
        why: "It is what the documentation says.",
        check: "Nothing: no trace shows it.",
    },
    Difference {
        code: "N01",
        original: "Closing a half twice fails.",
        ours: "Closing again is no error.",
        why: "As D04.",
        check: "That error. Checked: the close returns.",
    },
    Difference {
        code: "N02",
        original: "What `onClose` or `onRemove` throws fails the call that caused it.",
        ours: "Those methods return nothing; the call is done.",
        why: "As D12.",
        check: "That error, where such a method was called and throws it. Checked: the call \
            returns.",
    },
    Difference {
        code: "N03",
        original: "close and revoke return when every `onClose` has ended.",
        ours: "They return when `on_close` was called.",
        why: "A handler may close its own connection, or take its time.",
        check: "A later return. Checked: the call returns.",
    },
    Difference {
        code: "N04",
        original: "The closing half hears of a close before the other, ends and connections in a \
            fixed order.",
        ours: "Each end is told for itself, in no order between them.",
        why: "The ends may be on two machines.",
        check: "The place of an `onOpen`, `onClose` or `onReceive` among those that follow each \
            other. Checked: each is called once, with as many other calls before it; the trace \
            has its own order, the accepting half opened and the closing half told first.",
    },
    Difference {
        code: "N05",
        original: "`onReceive` is given the sender's options.",
        ours: "The options stay with the sender.",
        why: "A timeout is the sender's.",
        check: "That argument, where a send has those options. Checked: the record.",
    },
    Difference {
        code: "N06",
        original: "A backend is asked to listen again for a listener that replaces another.",
        ours: "It is asked once for a port.",
        why: "Listeners are core's affair.",
        check: "That `onListen`. Checked: no call.",
    },
    Difference {
        code: "N07",
        original: "A backend is told first of a revoke.",
        ours: "A name is released when everything else is done.",
        why: "Nobody else may bind it before.",
        check: "The place of `onRevoke`. Checked: it comes last; a trace that has it after \
            another call of the revoke differs.",
    },
    Difference {
        code: "N08",
        original: "Any text is an address.",
        ours: "An endpoint is checked where it is parsed: no empty parts, no control \
            characters.",
        why: "A name that nobody can mean is an error.",
        check: "What is made of such a text. Checked: an error of the endpoint's kind; a \
            component that never has a value is one alone.",
    },
    Difference {
        code: "N09",
        original: "Guards refuse arguments of another type.",
        ours: "They do not compile.",
        why: "Types.",
        check: "The error of a guard, where our argument cannot be of that type. Checked: \
            nothing else happens.",
    },
    Difference {
        code: "N10",
        original: "Giving up an attempt calls `onReject`, whether or not the listener was asked.",
        ours: "A listener is told of an attempt's end if it was asked about it.",
        why: "It knows of no other.",
        check: "That `onReject`. Checked: no call.",
    },
    Difference {
        code: "N11",
        original: "Prefixes are of parts, and the empty text is one.",
        ours: "Prefixes are of whole components.",
        why: "A component without its value names nothing.",
        check: "The others in a list of prefixes. Checked: the list without them.",
    },
    Difference {
        code: "N12",
        original: "removeListener takes the listener that is to go.",
        ours: "`unlisten` takes none: a port has one listener.",
        why: "Nobody else can hold it.",
        check: "The words of the error for another listener. Checked: the listener stays.",
    },
    Difference {
        code: "N13",
        original: "The empty name asks an allocator for a fresh one.",
        ours: "`None` does; an empty name is an error.",
        why: "An empty setting is a mistake more often than a wish.",
        check: "The port. Checked: an error of the name's kind.",
    },
    Difference {
        code: "N14",
        original: "Any text is a prefix of routes, also the empty one.",
        ours: "A route is a pattern of whole components.",
        why: "As N11.",
        check: "Registrations that are no patterns, and their routes. Checked: an error of the \
            endpoint's kind, and all other routes in order.",
    },
    Difference {
        code: "N15",
        original: "Adding the listener that a port has does nothing.",
        ours: "It is asked to listen, and removed in its own favour.",
        why: "Nothing tells one listener from another.",
        check: "Our `on_listen` and `on_remove`. Checked: both are of the same listener.",
    },
    Difference {
        code: "N16",
        original: "A listener is asked about an IBC channel when the channel is open.",
        ours: "It is asked when the other side tries to open it.",
        why: "Later it cannot be declined any more, only closed.",
        check: "The place of `onAccept`: with the try, and in the trace first of all with the \
            confirmation. Checked: it is the same call.",
    },
    Difference {
        code: "N17",
        original: "An empty ack is one zero byte on an IBC channel; its documentation says `\\x01`.",
        ours: "It is the byte 1.",
        why: "As it is documented; IBC has no empty acks.",
        check: "The ack that the chain hears of. Checked: that byte, where the original has its own.",
    },
    Difference {
        code: "N18",
        original: "What its chain says is believed.",
        ours: "A host checks what another chain says by the rules of IBC: a relayer begins and \
            closes no channels of others, a channel has one hop, and the acks of an ordered channel \
            come in order.",
        why: "Any chain can be at the other end.",
        check: "That the event returns, and what comes of it. Checked: the host's error, and \
            nothing else; an ack that came too early is taken when it is due and said again.",
    },
    Difference {
        code: "N19",
        original: "A channel that is open is not opened again: that is an error.",
        ours: "It is no error to say it again, and nothing happens.",
        why: "Two relayers may say the same.",
        check: "That error, where the same was said before. Checked: nothing happens.",
    },
    Difference {
        code: "N20",
        original: "The chain is asked to open a channel and refuses.",
        ours: "A host that cannot open one asks nobody.",
        why: "It knows its hops.",
        check: "That `startChannelOpenInit`. Checked: the connect fails all the same; a trace \
            without that call differs.",
    },
    Difference {
        code: "N21",
        original: "A send waits for the number that the chain gives its packet, also when the ack is \
            there.",
        ours: "A host numbers its packets itself.",
        why: "It is the chain.",
        check: "When the send returns: in the trace as the number comes. Checked: the same ack.",
    },
    Difference {
        code: "N22",
        original: "An empty record is an empty packet.",
        ours: "Over IBC it is refused: `SendError::Empty`.",
        why: "Chains take no packet without data (ICS-04, ibc-go).",
        check: "That `sendPacket`, and what becomes of it. Checked: the error.",
    },
];
