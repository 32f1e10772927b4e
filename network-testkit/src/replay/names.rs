//! Which of the original's addresses and objects is which of ours.
//!
//! Generated numbers may differ, since the original uses some up that nobody sees (D26), and so
//! may the number that a trace gives an object. Each must stand for one thing throughout.

use std::collections::BTreeMap;

/// The pairs that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    ours: BTreeMap<String, String>,
    theirs: BTreeMap<String, String>,
}

/// A name of the original's, and ours for the same thing.
pub(super) type Pair = (String, String);

/// Numbers that have been used up so far: how far generated ones may differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UsedUp {
    /// Ports that were bound or should have been.
    pub(super) ports: u64,
    /// Connects that failed or overlapped, and attempts from outside.
    pub(super) instances: u64,
}

impl Names {
    /// The pairs that make the two texts mean the same, if any do.
    pub(super) fn unify(&self, theirs: &str, ours: &str, used: UsedUp) -> Option<Vec<Pair>> {
        let mut pairs = Vec::new();
        match (Subject::of(theirs), Subject::of(ours)) {
            (Some(left), Some(right)) => {
                if left.kind != right.kind || left.addresses.len() != right.addresses.len() {
                    return None;
                }
                for (a, b) in left.addresses.iter().zip(&right.addresses) {
                    if !same_but_numbers(a, b, used) {
                        return None;
                    }
                    pairs.push(((*a).to_owned(), (*b).to_owned()));
                }
                if !left.kind.is_empty() {
                    pairs.push((theirs.to_owned(), ours.to_owned()));
                }
            }
            _ if theirs != ours => return None,
            _ => {}
        }
        let known = |(a, b): &Pair| {
            self.ours.get(a).is_none_or(|known| known == b)
                && self.theirs.get(b).is_none_or(|known| known == a)
        };
        pairs.iter().all(known).then_some(pairs)
    }

    /// As [`unify`](Self::unify) for several texts, and keeps the pairs.
    pub(super) fn learn(&mut self, theirs: &str, ours: &str, used: UsedUp) -> bool {
        let Some(pairs) = self.unify(theirs, ours, used) else { return false };
        for (a, b) in pairs {
            self.ours.insert(a.clone(), b.clone());
            self.theirs.insert(b, a);
        }
        true
    }

    /// A text of the original's, with our names in it.
    pub(super) fn translate(&self, theirs: &str) -> String {
        if let Some(ours) = self.ours.get(theirs) {
            return ours.clone();
        }
        let mut text = theirs.to_owned();
        for address in Subject::of(theirs).iter().flat_map(|subject| &subject.addresses) {
            if let Some(ours) = self.ours.get(*address) {
                text = text.replacen(*address, ours, 1);
            }
        }
        text
    }

    /// Whether some generated number differs.
    pub(super) fn renumbered(&self) -> bool {
        self.ours.iter().any(|(a, b)| a.starts_with('/') && a != b)
    }
}

/// How what the original asks its chain for a port by begins.
const BOUND: &str = "{packet: {source_port: \"";

/// A text that names addresses: `port(A)`, `conn(A>B)`, `attempt(A<B)`, `"A"`.
struct Subject<'a> {
    kind: &'a str,
    addresses: Vec<&'a str>,
}

impl<'a> Subject<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if let Some(address) = text.strip_prefix("\"/").and_then(|rest| rest.strip_suffix('"')) {
            let at = text.len() - address.len() - 2;
            return Some(Self { kind: "", addresses: vec![&text[at..text.len() - 1]] });
        }
        if let Some(port) = text.strip_prefix(BOUND).and_then(|rest| rest.strip_suffix("\"}}")) {
            return Some(Self { kind: "", addresses: vec![port] });
        }
        let (kind, rest) = text.split_once('(')?;
        let (inside, _number) = rest.rsplit_once(')')?;
        let addresses = match kind {
            "port" => vec![inside],
            "conn" => inside.split('>').collect(),
            "attempt" => inside.split('<').collect(),
            _ => return None,
        };
        Some(Self { kind, addresses })
    }
}

/// Whether two addresses differ at most in numbers that may have been used up.
fn same_but_numbers(theirs: &str, ours: &str, used: UsedUp) -> bool {
    if theirs == ours {
        return true;
    }
    let (left, right) = (theirs.split('/'), ours.split('/'));
    left.clone().count() == right.clone().count()
        && left.zip(right).all(|(a, b)| {
            let (Some((a_word, a_number)), Some((b_word, b_number))) = (numbered(a), numbered(b))
            else {
                return a == b;
            };
            let generated_port = matches!(a_word, "port" | "port-");
            a == b
                || a_word == b_word
                    && if generated_port {
                        a_number > b_number && a_number <= used.ports
                    } else {
                        used.instances > 0
                    }
        })
}

fn numbered(part: &str) -> Option<(&str, u64)> {
    let word = part.trim_end_matches(|char: char| char.is_ascii_digit());
    Some((word, part[word.len()..].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USED: UsedUp = UsedUp { ports: 3, instances: 1 };

    #[test]
    fn a_number_that_was_used_up_is_another_here_and_stays_it() {
        let mut names = Names::default();
        assert!(names.learn("port(/local/port3)", "port(/local/port1)", USED));
        assert!(names.renumbered());
        assert!(!names.learn("\"/local/port3\"", "\"/local/port2\"", USED));
        assert!(!names.learn("\"/local/port2\"", "\"/local/port1\"", USED));
        assert!(names.learn("\"/local/port3\"", "\"/local/port1\"", USED));
    }

    #[test]
    fn what_was_not_used_up_does_not_differ() {
        let mut names = Names::default();
        assert!(!names.learn("port(/local/port4)", "port(/local/port1)", USED));
        let none = UsedUp::default();
        assert!(!names.learn("\"/local/a/nonce/3\"", "\"/local/a/nonce/1\"", none));
        assert!(!names.learn("\"/local/a\"", "\"/local/b\"", USED));
        assert!(names.learn("5n", "5n", none));
    }

    #[test]
    fn an_object_is_one_object() {
        let mut names = Names::default();
        assert!(names.learn("port(/q/x)#2", "port(/q/x)", USED));
        assert!(!names.learn("port(/q/x)", "port(/q/x)", USED));
    }
}
