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
/// handshakes; [`NetworkBuilder::accept_policy`](crate::NetworkBuilder::accept_policy) sets
/// another, and [`Port::set_accept_policy`](crate::Port::set_accept_policy) one for a port
/// alone, instead of the network's.
///
/// What concerns sources is decided before a handshake costs anything, where the transport
/// knows the source. What concerns peers is decided once the transport has proved who they
/// are, and before the listener is asked. The dialer reads why:
/// [`Rejection::NotAllowed`], [`Rejection::Unproven`] or [`Rejection::Busy`].
///
/// A *source* is the address that a connection comes from, without its port. IPv6 addresses
/// count by their first 64 bits, which is what one host has as a rule. Backends without
/// sources, such as loopback, are held to the other rules.
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
    lists: Mutex<Lists>,
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

    /// Lets everybody in; one source may have
    /// [`DEFAULT_HANDSHAKES_PER_SOURCE`](Self::DEFAULT_HANDSHAKES_PER_SOURCE) handshakes in
    /// progress.
    pub fn new() -> Self {
        Self(Arc::new(Rules {
            unauthenticated: Unauthenticated::Accept,
            max_connections: usize::MAX,
            max_per_peer: usize::MAX,
            max_per_source: usize::MAX,
            max_handshakes_per_source: Self::DEFAULT_HANDSHAKES_PER_SOURCE,
            rate: None,
            lists: Mutex::default(),
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

    /// Sets how many accepted connections one source may have. Default: no limit.
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

    /// Keeps a peer out from now on, whether or not it is allowed. Connections that are open
    /// stay; [`Connection::peer`](crate::Connection::peer) tells which to close.
    pub fn deny(&self, peer: PeerId) {
        self.0.lists.lock().denied.insert(peer);
    }

    /// Whether a peer would come in, as far as the lists go.
    pub fn allows(&self, peer: &PeerId) -> bool {
        let lists = self.0.lists.lock();
        !lists.denied.contains(peer)
            && lists.allowed.as_ref().is_none_or(|allowed| allowed.contains(peer))
    }

    /// How many connections were accepted under this policy and are open.
    pub fn connections(&self) -> usize {
        self.0.counts.lock().connections
    }

    /// Makes a policy with other settings, the same lists, and counts of its own.
    fn changed(self, change: impl FnOnce(&mut Rules)) -> Self {
        let old = &*self.0;
        let lists = {
            let lists = old.lists.lock();
            Lists { allowed: lists.allowed.clone(), denied: lists.denied.clone() }
        };
        let mut rules = Rules {
            unauthenticated: old.unauthenticated,
            max_connections: old.max_connections,
            max_per_peer: old.max_per_peer,
            max_per_source: old.max_per_source,
            max_handshakes_per_source: old.max_handshakes_per_source,
            rate: old.rate.as_ref().map(|rate| Rate::new(rate.per_second, rate.burst)),
            lists: Mutex::new(lists),
            counts: Arc::default(),
        };
        change(&mut rules);
        Self(Arc::new(rules))
    }

    /// Counts a handshake of a source, unless it has too many or is too fast.
    pub(crate) fn handshake(&self, source: Option<IpAddr>) -> Option<Counted> {
        let source = source.map(source_of);
        if !self.is_slow_enough(source) {
            return None;
        }
        let mut counts = self.0.counts.lock();
        // Whoever may have no further connection needs no handshake either.
        let full = source
            .and_then(|source| counts.sources.get(&source))
            .is_some_and(|count| *count >= self.0.max_per_source);
        if full || counts.connections >= self.0.max_connections {
            return None;
        }
        if let Some(source) = source
            && !add(&mut counts.handshakes, source, self.0.max_handshakes_per_source)
        {
            return None;
        }
        drop(counts);
        Some(Counted { counts: self.0.counts.clone(), what: What::Handshake(source) })
    }

    /// Counts a connection, unless it may not be. `fresh` says that the rate was not asked
    /// about this attempt before.
    pub(crate) fn admit(&self, attempt: &Attempt, fresh: bool) -> Result<Counted, Rejection> {
        let peer = attempt.peer.as_ref().and_then(|peer| peer.id()).copied();
        let source = attempt.source.map(|source| source_of(source.ip()));
        match peer {
            Some(peer) if !self.allows(&peer) => return Err(Rejection::NotAllowed),
            Some(_) => {}
            None => {
                let listed = self.0.lists.lock().allowed.is_some();
                if listed || self.0.unauthenticated == Unauthenticated::Reject {
                    return Err(Rejection::Unproven);
                }
            }
        }
        if fresh && !self.is_slow_enough(source) {
            return Err(Rejection::Busy);
        }
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
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
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
        // It has all its connections already.
        assert!(policy.handshake(ip("10.0.0.1")).is_none());
        drop(held);
        let handshake = policy.handshake(ip("2001:db8::1")).unwrap();
        assert!(policy.handshake(ip("2001:db8::2")).is_none(), "one host has many such addresses");
        assert!(policy.handshake(ip("2001:db8:0:1::1")).is_some());
        drop(handshake);
        assert!(policy.handshake(ip("2001:db8::2")).is_some());
        let counts = policy.0.counts.lock();
        assert!(counts.sources.is_empty() && counts.handshakes.is_empty());
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
