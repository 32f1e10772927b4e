//! The opening of a connection over a byte stream.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{
    driver::{Driver, Running, part},
    link::{Shared, StreamLink},
};
use crate::{
    close::CloseReason,
    connection::Connection,
    endpoint::Endpoint,
    error::{ConnectError, Rejection},
    limits::Limits,
    listener::Attempt,
    network::Acceptor,
    peer::Peer,
    refusal::Refusal,
    seam::{LinkInfo, LinkSeed, PortRevoked},
    wire::{
        Closing, Hello, Input, MAX_OPENING_LEN, OpeningError, Output, Reply, Welcome, decode_hello,
        decode_reply,
    },
};

/// What a dialer says in its opening.
#[derive(Clone, Debug)]
pub struct Dialing {
    /// The endpoint of this side of the connection.
    pub local: Endpoint,
    /// The endpoint that is dialed.
    pub remote: Endpoint,
    /// The part of `remote` that the transport does not use: `/port/orders`, or empty.
    pub to: String,
    /// What this side's port is called, in the same terms, or empty.
    pub from: String,
    /// Who the remote side is, as far as the transport has proved it.
    pub peer: Option<Peer>,
}

impl Dialing {
    /// What the dialer says first, with the limits of its network.
    pub fn hello(&self, limits: &Limits) -> BytesMut {
        let (to, from) = (self.to.clone(), self.from.clone());
        Hello { to, from, takes: Welcome::of(limits) }.encode()
    }
}

/// Opens a connection over a stream that was dialed, and spawns its driver.
///
/// # Errors
/// [`ConnectError::Rejected`], [`ConnectError::Incompatible`], [`ConnectError::TimedOut`],
/// [`ConnectError::Unreachable`], [`ConnectError::Revoked`].
///
/// # Cancel safety
/// Dropping the future drops the stream; the listener notices.
pub async fn dial<S>(
    mut stream: S,
    seed: LinkSeed,
    dialing: Dialing,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let hello = dialing.hello(seed.limits());
    let exchange = async {
        stream.write_all(&hello).await?;
        stream.flush().await
    };
    let after = seed.limits().handshake_time;
    match timeout(after, exchange).await {
        Err(_) => Err(ConnectError::TimedOut { remote: dialing.remote, after }),
        Ok(Err(error)) => {
            Err(ConnectError::Unreachable { remote: dialing.remote, source: error.into() })
        }
        Ok(Ok(())) => dial_after_hello(stream, seed, dialing).await,
    }
}

/// As [`dial`], where the transport has said [`Dialing::hello`] already: with its own last
/// word, which saves a write and a read.
///
/// # Errors
/// As [`dial`].
///
/// # Cancel safety
/// As [`dial`].
pub async fn dial_after_hello<S>(
    mut stream: S,
    seed: LinkSeed,
    dialing: Dialing,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (info, begun) = ask(&mut stream, seed.limits(), &dialing).await?;
    let opened = drive(stream, Agreed { seed, info, begun });
    opened.map_err(|PortRevoked| ConnectError::Revoked { local: dialing.local })
}

/// A connection that both sides want, before there is a link for it: for backends that have
/// an opening as streams do, and links of their own.
#[derive(Debug)]
pub struct Agreed {
    /// Becomes the connection.
    pub seed: LinkSeed,
    /// What both sides keep to.
    pub info: LinkInfo,
    /// What was read behind the opening.
    pub begun: BytesMut,
}

/// Waits for the listener's answer to [`Dialing::hello`]; what both sides keep to, and what was
/// read behind the answer.
///
/// # Errors
/// As [`dial`].
///
/// # Cancel safety
/// None: what was read may be lost.
pub async fn ask<S>(
    stream: &mut S,
    limits: &Limits,
    dialing: &Dialing,
) -> Result<(LinkInfo, BytesMut), ConnectError>
where
    S: AsyncRead + Unpin,
{
    let Dialing { local, remote, peer, .. } = dialing.clone();
    let mut input = BytesMut::new();
    let exchange = read_opening(stream, &mut input, decode_reply);
    // The listener may take its time to decide.
    let after = limits.handshake_time.saturating_add(limits.accept_time);
    let reply = match timeout(after, exchange).await {
        Err(_) => return Err(ConnectError::TimedOut { remote, after }),
        Ok(Err(error)) => {
            return Err(ConnectError::Unreachable { remote, source: error.into() });
        }
        Ok(Ok(Err(error))) => {
            let problem = error.to_string();
            return Err(ConnectError::Incompatible { remote, problem });
        }
        Ok(Ok(Ok(reply))) => reply,
    };
    match reply {
        Reply::Reject(reason) => Err(ConnectError::Rejected { remote, reason }),
        Reply::Welcome(welcome) => {
            Ok((agreed(local, remote, limits, welcome).with_peer(peer), input))
        }
    }
}

/// Opens a connection over a stream that came in, and spawns its driver; or turns it down.
///
/// `attempt_of` makes the attempt from what the dialer said: the endpoint it dialed, in the
/// terms of the listening address, and the dialer's own. Both of those words are unverified:
/// let them name ports, and nothing that could pass for what the transport knows.
///
/// # Errors
/// Why there is no connection. The dialer has been told, as far as it listened.
///
/// # Cancel safety
/// Dropping the future drops the stream.
pub async fn accept<S, E>(
    stream: S,
    acceptor: &Acceptor,
    attempt_of: impl FnOnce(&Hello) -> Result<Attempt, E>,
) -> Result<Connection, Rejection>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    E: std::fmt::Display,
{
    let (stream, agreed) = decide(stream, acceptor, attempt_of).await?;
    Ok(drive(stream, agreed)?)
}

/// Reads the opening of a stream that came in, asks who listens, and welcomes the dialer or turns
/// it down.
///
/// # Errors
/// As [`accept`].
///
/// # Cancel safety
/// Dropping the future drops the stream.
pub async fn decide<S, E>(
    mut stream: S,
    acceptor: &Acceptor,
    attempt_of: impl FnOnce(&Hello) -> Result<Attempt, E>,
) -> Result<(S, Agreed), Rejection>
where
    S: AsyncRead + AsyncWrite + Unpin,
    E: std::fmt::Display,
{
    let limits = acceptor.limits().clone();
    let mut input = BytesMut::new();
    let bad =
        |error: &dyn std::fmt::Display| Rejection::BadOpening(Refusal::new(error.to_string()));
    let reading = read_opening(&mut stream, &mut input, decode_hello);
    let hello = match timeout(limits.handshake_time, reading).await {
        Err(_) => Err(bad(&"it took too long")),
        Ok(Err(error)) => return Err(bad(&error)),
        Ok(Ok(Err(error))) => Err(bad(&error)),
        Ok(Ok(Ok(hello))) => Ok(hello),
    };
    let hello = hello.and_then(|hello| {
        let early = "the dialer sent something before it was welcomed";
        if input.is_empty() { Ok(hello) } else { Err(bad(&early)) }
    });
    let attempt = hello.and_then(|hello| {
        attempt_of(&hello).map(|attempt| (hello, attempt)).map_err(|error| bad(&error))
    });
    let (hello, attempt) = match attempt {
        Ok(attempt) => attempt,
        Err(rejection) => return Err(reject(stream, rejection, &limits).await),
    };
    let (local, remote) = (attempt.local.clone(), attempt.remote.clone());
    let peer = attempt.peer.clone();
    let decision = tokio::select! {
        decision = acceptor.attempt(attempt) => decision,
        // A dialer says nothing before it is welcomed, so this is its end.
        gone = gone(&mut stream, &mut input) => return Err(bad(&gone)),
    };
    let seed = match decision {
        Ok(seed) => seed,
        Err(rejection) => return Err(reject(stream, rejection, &limits).await),
    };
    let welcome = Reply::Welcome(Welcome::of(&limits)).encode();
    let sending = async {
        stream.write_all(&welcome).await?;
        stream.flush().await
    };
    match timeout(limits.handshake_time, sending).await {
        Err(_) => return Err(bad(&"it took too long to read the welcome")),
        Ok(Err(error)) => return Err(bad(&error)),
        Ok(Ok(())) => {}
    }
    let info = agreed(local, remote, &limits, hello.takes).with_peer(peer);
    Ok((stream, Agreed { seed, info, begun: input }))
}

/// Opens a connection over a stream on which both sides have agreed, and spawns its driver.
///
/// # Errors
/// The port was revoked meanwhile. The other side is told.
pub fn drive<S>(stream: S, agreed: Agreed) -> Result<Connection, PortRevoked>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Agreed { seed, info, begun } = agreed;
    let limits = seed.limits().clone();
    let shared = Arc::new(Shared::default());
    let share = seed.share();
    let open = seed.agree(info);
    let link = StreamLink { shared: shared.clone(), acks: open.acks() };
    let (connection, events) = match open.establish(Arc::new(link)) {
        Ok(established) => established,
        Err(revoked) => {
            // The other side has its connection already, or is about to.
            let mut output = Output::default();
            output.close(&Closing::of(&CloseReason::Revoked, 0));
            tokio::spawn(part(stream, output, limits.close_time));
            return Err(revoked);
        }
    };
    tokio::spawn(Running::Driving(Driver::new(stream, begun, shared, events, &limits, share)));
    Ok(connection)
}

/// What both sides keep to: the smaller limit of the two.
fn agreed(local: Endpoint, remote: Endpoint, limits: &Limits, theirs: Welcome) -> LinkInfo {
    LinkInfo {
        local,
        remote,
        max_record_len: limits.max_record_len.min(theirs.max_record_len as usize),
        max_ack_len: limits.max_ack_len.min(theirs.max_ack_len as usize),
        window_records: limits.window_records.min(theirs.window_records),
        window_bytes: limits.window_bytes.min(theirs.window_bytes),
        peer: None,
        path: None,
        no_empty_records: false,
        proves_timeouts: false,
    }
}

/// Reads until one opening message is there, and no further than one can be long.
async fn read_opening<S, T>(
    stream: &mut S,
    input: &mut BytesMut,
    decode: impl Fn(&mut BytesMut) -> Result<Option<T>, OpeningError>,
) -> io::Result<Result<T, OpeningError>>
where
    S: AsyncRead + Unpin,
{
    loop {
        match decode(input) {
            Ok(Some(message)) => return Ok(Ok(message)),
            Err(error) => return Ok(Err(error)),
            Ok(None) => {}
        }
        let room = MAX_OPENING_LEN.saturating_sub(input.len());
        input.reserve(room.min(Input::LEAST));
        let read = if room == 0 { 0 } else { stream.read_buf(input).await? };
        if read == 0 && input.is_empty() {
            let error = "it ended the connection before it said anything: it may be at its limit of \
                         connections, or be ending; try again later";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
        }
        if read == 0 {
            let early = OpeningError::Malformed("the connection ended before the opening did");
            return Ok(Err(early));
        }
    }
}

/// Tells the dialer no, and lets it read that before the stream goes.
async fn reject<S>(mut stream: S, rejection: Rejection, limits: &Limits) -> Rejection
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = Reply::Reject(rejection.clone()).encode();
    let telling = async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        let mut rest = vec![0; 512];
        let mut budget = MAX_OPENING_LEN;
        // Closing with unread bytes would reset the connection and could take the word along.
        while budget > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                read => budget = budget.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // The dialer may be gone, or not listen: it was told as far as that goes.
    let _ = timeout(limits.close_time.min(Duration::from_secs(1)), telling).await;
    rejection
}

/// Waits until the stream ends; whatever comes before that comes too early.
async fn gone<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> String {
    match stream.read_buf(input).await {
        Ok(0) => "the dialer went away before the decision".to_owned(),
        Ok(_) => "the dialer sent something before it was welcomed".to_owned(),
        Err(error) => error.to_string(),
    }
}
