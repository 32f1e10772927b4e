//! Who may come in: one policy for the inbound connections of every backend.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use crate::{error::Rejection, listener::Attempt, peer::PeerId, sync::Mutex};

/// Who may connect to a network, or to one port of it, over any backend. A cheap handle: what
/// is changed through one clone holds for all.
///
/// A network has one, which lets everybody in and keeps one source from taking all the
/// handshakes and all the connections;
/// [`NetworkBuilder::accept_policy`](crate::NetworkBuilder::accept_policy) sets another, and
/// [`Port::set_accept_policy`](crate::Port::set_accept_policy) one for a port alone, instead of
/// the network's.
///
/// Lists belong to all that came from one [`new`](Self::new): its clones, and what a `with_…`
/// makes of any of them. So a handle that was kept aside denies for all of them, whatever was
/// set since. Settings and counts belong to a policy and its clones. For lists of its own, a
/// port needs a policy from a `new` of its own.
///
/// How many handshakes a source has, and how fast it is, is asked before a handshake costs
/// anything, where the transport knows the source; whoever is turned away then sees the
/// connection end and no reason, [`ConnectError::Unreachable`](crate::ConnectError). All else is
/// decided once the transport has proved who is there, and before the listener is asked. The
/// dialer then reads why: [`Rejection::NotAllowed`], [`Rejection::Unproven`] or
/// [`Rejection::Busy`]. The lists are asked again after the listener has decided, and when the
/// connection opens.
///
/// A *source* is the address that a connection comes from, without its port. IPv6 addresses
/// count by their first 56 bits: one customer has that many 64-bit networks as a rule, and
/// could otherwise count as 256 sources. Backends without sources, such as loopback, are held
/// to the other rules.
///
/// ```
/// use network_core::{AcceptPolicy, PeerId, Unauthenticated};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let friend: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse()?;
/// let policy = AcceptPolicy::new()
///     .with_unauthenticated(Unauthenticated::Reject)
///     .with_max_per_peer(4)
///     .with_rate_per_source(10.try_into()?, 50.try_into()?);
/// policy.allow_only([friend]);
/// // Later, while the network runs:
/// policy.deny(friend);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AcceptPolicy(Arc<Rules>);

struct Rules {
    unauthenticated: Unauthenticated,
    max_connections: usize,
    max_per_peer: usize,
    max_per_source: usize,
    max_handshakes_per_source: usize,
    rate: Option<Rate>,
    /// Shared with every policy that was made from this one, or this from it.
    lists: Arc<Mutex<Lists>>,
    counts: Arc<Mutex<Counts>>,
}

/// What becomes of a dialer whose transport proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unauthenticated {
    /// The listener decides. The default.
    #[default]
    Accept,
    /// It is turned away: only who has a proved peer id comes in.
    Reject,
}

#[derive(Default)]
struct Lists {
    /// Everybody, if none.
    allowed: Option<HashSet<PeerId>>,
    denied: HashSet<PeerId>,
}

impl Lists {
    fn allow(&self, peer: &PeerId) -> bool {
        !self.denied.contains(peer)
            && self.allowed.as_ref().is_none_or(|allowed| allowed.contains(peer))
    }
}

struct Rate<C: Clock = DefaultClock> {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    sources: RateLimiter<IpAddr, Sources, C, NoOpMiddleware<C::Instant>>,
    /// When sources were last forgotten.
    swept: Mutex<Option<C::Instant>>,
}

/// How much of its rate each source has used: of so many, and of all others together.
#[derive(Default)]
struct Sources(Mutex<Used>);

#[derive(Default)]
struct Used {
    known: HashMap<IpAddr, Nanos>,
    others: Option<Nanos>,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    peers: HashMap<PeerId, usize>,
    sources: HashMap<IpAddr, usize>,
    handshakes: HashMap<IpAddr, usize>,
}

impl AcceptPolicy {
    /// How many sources a rate is remembered of. Beyond that, sources that have their whole
    /// burst again are forgotten, once a second; if none has, newcomers share the rate of one
    /// source. Those that are remembered have theirs.
    pub const MAX_RATED_SOURCES: usize = 65_536;

    /// How many handshakes one source may have in progress unless that is set.
    pub const DEFAULT_HANDSHAKES_PER_SOURCE: usize = 1_024;

    /// How many accepted connections one source may have unless that is set: a quarter of
    /// what [`Limits::max_connections`](crate::Limits::max_connections) is by default.
    pub const DEFAULT_CONNECTIONS_PER_SOURCE: usize = 16_384;

    /// Lets everybody in; one source may have
    /// [`DEFAULT_HANDSHAKES_PER_SOURCE`](Self::DEFAULT_HANDSHAKES_PER_SOURCE) handshakes in
    /// progress, and
    /// [`DEFAULT_CONNECTIONS_PER_SOURCE`](Self::DEFAULT_CONNECTIONS_PER_SOURCE) connections.
    pub fn new() -> Self {
        Self(Arc::new(Rules {
            unauthenticated: Unauthenticated::Accept,
            max_connections: usize::MAX,
            max_per_peer: usize::MAX,
            max_per_source: Self::DEFAULT_CONNECTIONS_PER_SOURCE,
            max_handshakes_per_source: Self::DEFAULT_HANDSHAKES_PER_SOURCE,
            rate: None,
            lists: Arc::default(),
            counts: Arc::default(),
        }))
    }

    /// Sets what becomes of a dialer whose transport proves nothing.
    #[must_use]
    pub fn with_unauthenticated(self, what: Unauthenticated) -> Self {
        self.changed(|rules| rules.unauthenticated = what)
    }

    /// Sets how many accepted connections there may be at a time. Default: no limit but
    /// [`Limits::max_connections`](crate::Limits::max_connections).
    #[must_use]
    pub fn with_max_connections(self, max: usize) -> Self {
        self.changed(|rules| rules.max_connections = max)
    }

    /// Sets how many accepted connections one peer may have. Default: no limit.
    #[must_use]
    pub fn with_max_per_peer(self, max: usize) -> Self {
        self.changed(|rules| rules.max_per_peer = max)
    }

    /// Sets how many accepted connections one source may have. Default: 16,384.
    #[must_use]
    pub fn with_max_per_source(self, max: usize) -> Self {
        self.changed(|rules| rules.max_per_source = max)
    }

    /// Sets how many handshakes one source may have in progress, attempts that are not yet
    /// decided over included. Default: 1,024.
    #[must_use]
    pub fn with_max_handshakes_per_source(self, max: usize) -> Self {
        self.changed(|rules| rules.max_handshakes_per_source = max)
    }

    /// Sets how many connections one source may open a second, and how many at once after it
    /// was quiet. Default: no limit.
    #[must_use]
    pub fn with_rate_per_source(self, per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        self.changed(|rules| rules.rate = Some(Rate::new(per_second, burst)))
    }

    /// From now on only these peers come in, and of those none that is denied. Connections
    /// that are open stay.
    pub fn allow_only(&self, peers: impl IntoIterator<Item = PeerId>) {
        let peers = peers.into_iter().collect();
        self.0.lists.lock().allowed = Some(peers);
    }

    /// From now on every peer comes in that is not denied.
    pub fn allow_everybody(&self) {
        self.0.lists.lock().allowed = None;
    }

    /// Lets one more peer in: takes it from the denied, and adds it to the allowed if only
    /// some are.
    pub fn allow(&self, peer: PeerId) {
        let mut lists = self.0.lists.lock();
        lists.denied.remove(&peer);
        if let Some(allowed) = &mut lists.allowed {
            allowed.insert(peer);
        }
    }

    /// Keeps a peer out from now on, whether or not it is allowed. That holds for attempts
    /// that wait for their listener as well: once this has returned, no connection of the peer
    /// opens. Those that are open stay; [`Port::connections`](crate::Port::connections) has
    /// them all, and [`Connection::peer`](crate::Connection::peer) tells which to close.
    pub fn deny(&self, peer: PeerId) {
        self.0.lists.lock().denied.insert(peer);
    }

    /// Whether a peer would come in, as far as the lists go.
    pub fn allows(&self, peer: &PeerId) -> bool {
        self.0.lists.lock().allow(peer)
    }

    /// How many connections were accepted under this policy and are open. Those under one
    /// that a `with_…` made of it count there.
    pub fn connections(&self) -> usize {
        self.0.counts.lock().connections
    }

    /// Makes a policy with other settings, the same lists, and counts of its own.
    fn changed(self, change: impl FnOnce(&mut Rules)) -> Self {
        let old = &*self.0;
        let mut rules = Rules {
            unauthenticated: old.unauthenticated,
            max_connections: old.max_connections,
            max_per_peer: old.max_per_peer,
            max_per_source: old.max_per_source,
            max_handshakes_per_source: old.max_handshakes_per_source,
            rate: old.rate.as_ref().map(|rate| Rate::new(rate.per_second, rate.burst)),
            // The same, not a copy: whoever has a handle of the old policy would deny nobody.
            lists: old.lists.clone(),
            counts: Arc::default(),
        };
        change(&mut rules);
        Self(Arc::new(rules))
    }

    /// Counts a handshake of a source, unless it has too many or is too fast.
    ///
    /// Connections are not asked about: which port is dialed is not known yet, and it may have
    /// a policy of its own.
    pub(crate) fn handshake(&self, source: Option<IpAddr>) -> Option<Counted> {
        let source = source.map(source_of);
        if !self.is_slow_enough(source) {
            return None;
        }
        if let Some(source) = source {
            let mut counts = self.0.counts.lock();
            if !add(&mut counts.handshakes, source, self.0.max_handshakes_per_source) {
                return None;
            }
        }
        Some(Counted { counts: self.0.counts.clone(), what: What::Handshake(source) })
    }

    /// Counts a connection, unless it may not be. `fresh` says that the rate was not asked
    /// about this attempt before.
    pub(crate) fn admit(&self, attempt: &Attempt, fresh: bool) -> Result<Counted, Rejection> {
        let dialer = Dialer(attempt.peer.as_ref().and_then(|peer| peer.id()).copied());
        let source = attempt.source.map(|source| source_of(source.ip()));
        self.let_in(dialer, || ())?;
        if fresh && !self.is_slow_enough(source) {
            return Err(Rejection::Busy);
        }
        let Dialer(peer) = dialer;
        let mut counts = self.0.counts.lock();
        if counts.connections >= self.0.max_connections {
            return Err(Rejection::Busy);
        }
        if peer.is_some_and(|peer| !add(&mut counts.peers, peer, self.0.max_per_peer)) {
            return Err(Rejection::Busy);
        }
        if source.is_some_and(|source| !add(&mut counts.sources, source, self.0.max_per_source)) {
            if let Some(peer) = peer {
                remove(&mut counts.peers, &peer);
            }
            return Err(Rejection::Busy);
        }
        counts.connections += 1;
        drop(counts);
        Ok(Counted {
            counts: self.0.counts.clone(),
            what: What::Connection(peer.map(Box::new), source),
        })
    }

    /// Does what lets a dialer in, unless the lists keep it out. They do not change meanwhile:
    /// whoever denies it has done so before, or finds it let in.
    pub(crate) fn let_in<T>(
        &self,
        Dialer(peer): Dialer,
        enter: impl FnOnce() -> T,
    ) -> Result<T, Rejection> {
        let lists = self.0.lists.lock();
        match peer {
            Some(peer) if !lists.allow(&peer) => Err(Rejection::NotAllowed),
            None if lists.allowed.is_some() => Err(Rejection::Unproven),
            None if self.0.unauthenticated == Unauthenticated::Reject => Err(Rejection::Unproven),
            _ => Ok(enter()),
        }
    }

    fn is_slow_enough(&self, source: Option<IpAddr>) -> bool {
        match (&self.0.rate, source) {
            (Some(rate), Some(source)) => rate.allows(source),
            _ => true,
        }
    }
}

impl Default for AcceptPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AcceptPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptPolicy")
            .field("unauthenticated", &self.0.unauthenticated)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Rate {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self::by(DefaultClock::default(), per_second, burst)
    }
}

impl<C: Clock> Rate<C> {
    /// Forgetting looks at every source, so it may not happen for every connection.
    const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);

    fn by(clock: C, per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let sources = RateLimiter::new(quota, Sources::default(), clock);
        Self { per_second, burst, sources, swept: Mutex::default() }
    }

    fn allows(&self, source: IpAddr) -> bool {
        if self.sources.len() >= AcceptPolicy::MAX_RATED_SOURCES && self.is_time_to_sweep() {
            self.sources.retain_recent();
        }
        self.sources.check_key(&source).is_ok()
    }

    fn is_time_to_sweep(&self) -> bool {
        let now = self.sources.clock().now();
        let mut swept = self.swept.lock();
        let long = Nanos::from(Self::BETWEEN_SWEEPS);
        let due = swept.is_none_or(|swept| now.duration_since(swept) >= long);
        if due {
            *swept = Some(now);
        }
        due
    }
}

impl StateStore for Sources {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, source: &IpAddr, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut used = self.0.lock();
        // Who is known is never kept out by those who fill the table.
        if let Some(known) = used.known.get_mut(source) {
            let (outcome, now) = measure(Some(*known))?;
            *known = now;
            return Ok(outcome);
        }
        if used.known.len() < AcceptPolicy::MAX_RATED_SOURCES {
            let (outcome, now) = measure(None)?;
            used.known.insert(*source, now);
            return Ok(outcome);
        }
        let (outcome, now) = measure(used.others)?;
        used.others = Some(now);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<IpAddr> for Sources {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.lock().known.retain(|_, used| *used > drop_below);
    }

    fn len(&self) -> usize {
        self.0.lock().known.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who dialed, as far as lists know: its proved peer id, if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer(Option<PeerId>);

/// One of a counted number, until it is dropped.
pub(crate) struct Counted {
    counts: Arc<Mutex<Counts>>,
    what: What,
}

enum What {
    Handshake(Option<IpAddr>),
    /// The peer is boxed: this is in every accepted connection, and many have none.
    Connection(Option<Box<PeerId>>, Option<IpAddr>),
}

impl Counted {
    /// Who dialed a connection that is counted.
    pub(crate) fn dialer(&self) -> Dialer {
        match &self.what {
            What::Handshake(_) => Dialer(None),
            What::Connection(peer, _) => Dialer(peer.as_deref().copied()),
        }
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        match &self.what {
            What::Handshake(None) => {}
            What::Handshake(Some(source)) => remove(&mut counts.handshakes, source),
            What::Connection(peer, source) => {
                counts.connections -= 1;
                if let Some(peer) = peer {
                    remove(&mut counts.peers, &**peer);
                }
                if let Some(source) = source {
                    remove(&mut counts.sources, source);
                }
            }
        }
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, max: usize) -> bool {
    // With a limit of none at all, nothing may stay behind.
    if max == 0 {
        return false;
    }
    let count = counts.entry(key).or_default();
    let room = *count < max;
    *count += usize::from(room);
    room
}

fn remove<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What counts as one source.
pub(crate) fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            // The least that providers are advised to give one customer (RIPE-690).
            const PREFIX: u128 = !0 << (128 - 56);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & PREFIX))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::endpoint::Endpoint;

    fn peer(number: u8) -> PeerId {
        PeerId::from_bytes(&[&[0x12, 32], [number; 32].as_slice()].concat()).unwrap()
    }

    fn attempt(peer: Option<PeerId>, source: &str) -> Attempt {
        let endpoint = |text| Endpoint::parse(text).unwrap();
        let mut attempt = Attempt::new(endpoint("/local/a"), endpoint("/local/b"));
        if let Some(peer) = peer {
            attempt = attempt.with_peer(peer);
        }
        if !source.is_empty() {
            attempt = attempt.with_source(source.parse().unwrap());
        }
        attempt
    }

    fn code(outcome: Result<Counted, Rejection>) -> Option<Rejection> {
        outcome.err()
    }

    #[test]
    fn everybody_comes_in_by_default() {
        let policy = AcceptPolicy::new();
        let _one = policy.admit(&attempt(None, ""), false).unwrap();
        let _two = policy.admit(&attempt(Some(peer(1)), "10.0.0.1:1"), false).unwrap();
        assert_eq!(policy.connections(), 2);
    }

    #[test]
    fn the_lists_may_change_while_it_is_used() {
        let policy = AcceptPolicy::new();
        let handle = policy.clone();
        let ask = |number| code(policy.admit(&attempt(Some(peer(number)), ""), false));
        handle.deny(peer(1));
        assert_eq!((ask(1), ask(2)), (Some(Rejection::NotAllowed), None));
        handle.allow_only([peer(1), peer(2)]);
        assert_eq!((ask(1), ask(3)), (Some(Rejection::NotAllowed), Some(Rejection::NotAllowed)));
        handle.allow(peer(1));
        handle.allow(peer(3));
        assert_eq!((ask(1), ask(2), ask(3)), (None, None, None));
        assert_eq!(code(policy.admit(&attempt(None, ""), false)), Some(Rejection::Unproven));
        handle.allow_everybody();
        assert_eq!((ask(9), code(policy.admit(&attempt(None, ""), false))), (None, None));
    }

    #[test]
    fn who_proves_nothing_may_be_turned_away() {
        let policy = AcceptPolicy::new().with_unauthenticated(Unauthenticated::Reject);
        assert_eq!(code(policy.admit(&attempt(None, ""), false)), Some(Rejection::Unproven));
        assert_eq!(code(policy.admit(&attempt(Some(peer(1)), ""), false)), None);
    }

    #[test]
    fn caps_hold_as_long_as_connections_live() {
        let policy = AcceptPolicy::new().with_max_connections(3).with_max_per_peer(1);
        let first = policy.admit(&attempt(Some(peer(1)), ""), false).unwrap();
        let again = || code(policy.admit(&attempt(Some(peer(1)), ""), false));
        assert_eq!(again(), Some(Rejection::Busy));
        let _others: Vec<_> =
            (2..4).map(|id| policy.admit(&attempt(Some(peer(id)), ""), false).unwrap()).collect();
        assert_eq!(code(policy.admit(&attempt(None, ""), false)), Some(Rejection::Busy));
        drop(first);
        assert_eq!(again(), None);
    }

    #[test]
    fn a_source_has_its_share_and_leaves_the_others_theirs() {
        let policy = AcceptPolicy::new().with_max_per_source(2).with_max_handshakes_per_source(1);
        let from = |source: &str| code(policy.admit(&attempt(None, source), false));
        let held: Vec<_> = (1..3)
            .map(|port| policy.admit(&attempt(None, &format!("10.0.0.1:{port}")), false).unwrap())
            .collect();
        assert_eq!(from("10.0.0.1:9"), Some(Rejection::Busy));
        assert_eq!(from("[::ffff:10.0.0.1]:9"), Some(Rejection::Busy));
        assert_eq!(from("10.0.0.2:9"), None);
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        drop(held);
        let handshake = policy.handshake(ip("2001:db8::1")).unwrap();
        assert!(policy.handshake(ip("2001:db8::2")).is_none(), "one host has many such addresses");
        assert!(
            policy.handshake(ip("2001:db8:0:ff::1")).is_none(),
            "and a customer many such nets"
        );
        assert!(policy.handshake(ip("2001:db8:0:100::1")).is_some());
        drop(handshake);
        assert!(policy.handshake(ip("2001:db8::2")).is_some());
        let counts = policy.0.counts.lock();
        assert!(counts.sources.is_empty() && counts.handshakes.is_empty());
    }

    #[test]
    fn who_may_have_no_further_connection_has_a_handshake_and_is_told() {
        // The port that is dialed may have a policy of its own.
        let policy = AcceptPolicy::new().with_max_connections(1).with_max_per_source(1);
        let _only = policy.admit(&attempt(None, "10.0.0.1:1"), false).unwrap();
        assert!(policy.handshake(Some([10, 0, 0, 1].into())).is_some());
        assert_eq!(code(policy.admit(&attempt(None, "10.0.0.1:2"), false)), Some(Rejection::Busy));
    }

    #[test]
    fn lists_are_those_of_every_policy_made_from_it() {
        let policy = AcceptPolicy::new();
        let before = policy.clone();
        let policy = policy.with_max_per_peer(4).with_max_connections(9);
        let after = policy.clone().with_unauthenticated(Unauthenticated::Reject);
        let ask = |policy: &AcceptPolicy| code(policy.admit(&attempt(Some(peer(1)), ""), false));
        for handle in [&before, &policy, &after] {
            handle.deny(peer(1));
            for policy in [&before, &policy, &after] {
                assert_eq!(ask(policy), Some(Rejection::NotAllowed));
            }
            handle.allow(peer(1));
        }
        assert_eq!(ask(&policy), None);
        // Settings and counts are not.
        let _one = policy.admit(&attempt(None, ""), false).unwrap();
        assert_eq!((before.connections(), policy.connections()), (0, 1));
        assert_eq!(code(after.admit(&attempt(None, ""), false)), Some(Rejection::Unproven));
        AcceptPolicy::new().deny(peer(1));
        assert_eq!(ask(&policy), None);
    }

    #[test]
    fn denying_waits_for_who_is_just_entering() {
        let policy = AcceptPolicy::new();
        let handle = policy.clone();
        let denying = policy.let_in(Dialer(Some(peer(1))), || {
            let denying = std::thread::spawn(move || handle.deny(peer(1)));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!denying.is_finished(), "whoever denied it could not see it yet");
            denying
        });
        denying.unwrap().join().unwrap();
        assert_eq!(policy.let_in(Dialer(Some(peer(1))), || ()), Err(Rejection::NotAllowed));
    }

    #[test]
    fn one_source_may_not_have_every_connection_by_default() {
        let policy = AcceptPolicy::new();
        let share = AcceptPolicy::DEFAULT_CONNECTIONS_PER_SOURCE;
        assert_eq!(share * 4, crate::Limits::default().max_connections);
        let handshakes = AcceptPolicy::DEFAULT_HANDSHAKES_PER_SOURCE;
        assert_eq!(handshakes * 4, crate::Limits::default().max_handshakes);
        let from = |source: &str| policy.admit(&attempt(None, source), false);
        let _held: Vec<_> = (0..share).map(|_| from("10.0.0.1:1").unwrap()).collect();
        assert_eq!(code(from("10.0.0.1:1")), Some(Rejection::Busy));
        assert_eq!(code(from("10.0.0.2:1")), None);
    }

    #[test]
    fn a_full_table_of_rates_keeps_out_nobody_it_knows() {
        let [per_second, burst] = [1, 10].map(|n| NonZeroU32::new(n).unwrap());
        let clock = FakeRelativeClock::default();
        let rate = Rate::by(clock.clone(), per_second, burst);
        let source = |number: u32| IpAddr::from(number.to_be_bytes());
        let most = AcceptPolicy::MAX_RATED_SOURCES as u32;
        for number in 0..most {
            // Half of them are fresh again after 1 s, the others after 2 s.
            assert!(rate.allows(source(number)));
            assert!(number % 2 == 0 || rate.allows(source(number)));
        }
        // All that are not known are like one.
        let newcomers = |from: u32| (from..from + 50).filter(|n| rate.allows(source(*n))).count();
        assert_eq!(newcomers(most), 10);
        assert_eq!(newcomers(most + 50), 0);
        assert_eq!(rate.sources.len(), most as usize);
        // Those that are known have what is left of their own.
        assert_eq!((0..20).filter(|_| rate.allows(source(0))).count(), 9);
        assert_eq!((0..20).filter(|_| rate.allows(source(1))).count(), 8);
        // Room is made once a second at most.
        clock.advance(Duration::from_millis(500));
        assert!(!rate.is_time_to_sweep());
        clock.advance(Duration::from_millis(1_600));
        assert!(rate.is_time_to_sweep());
        assert!(rate.allows(source(0)));
        assert_eq!(rate.sources.len(), most as usize);
        clock.advance(Duration::from_secs(1));
        assert_eq!(newcomers(most + 100), 50);
        // The two that used all of theirs, and the newcomers.
        assert_eq!(rate.sources.len(), 52);
    }

    #[test]
    fn a_source_may_be_only_so_fast() {
        let [rate, burst] = [1, 3].map(|n| NonZeroU32::new(n).unwrap());
        let policy = AcceptPolicy::new().with_rate_per_source(rate, burst);
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let granted = (0..10).filter(|_| policy.handshake(ip("10.0.0.1")).is_some()).count();
        assert_eq!(granted, 3);
        assert!(policy.handshake(ip("10.0.0.2")).is_some());
        assert!(policy.handshake(None).is_some());
        // Where nobody asked before the handshake, the attempt is asked.
        assert_eq!(code(policy.admit(&attempt(None, "10.0.0.1:1"), true)), Some(Rejection::Busy));
        assert_eq!(code(policy.admit(&attempt(None, "10.0.0.1:1"), false)), None);
    }

    #[test]
    fn a_limit_of_none_leaves_nothing_behind() {
        let policy = AcceptPolicy::new().with_max_per_peer(0).with_max_handshakes_per_source(0);
        assert_eq!(
            code(policy.admit(&attempt(Some(peer(1)), "10.0.0.1:1"), false)),
            Some(Rejection::Busy)
        );
        assert!(policy.handshake(Some([10, 0, 0, 1].into())).is_none());
        let counts = policy.0.counts.lock();
        assert!(counts.peers.is_empty() && counts.handshakes.is_empty());
        assert_eq!(counts.connections, 0);
    }
}
