//! Revoke: D06, D11, D12.

use crate::replay::{
    event::{Event, Kind},
    left::{End, Left, mirrored},
};

pub(super) fn apply(left: &mut Left<'_>) {
    closes_all(left);
    for ends in left.ends() {
        if ends.op == "revoke" && ends.ours.kind() == Some(Kind::AlreadyRevoked) {
            let together = matches!(ends.theirs.kind(), Some(Kind::NoListener | Kind::Forgotten));
            if together {
                left.excuse(&ends, "D11");
            }
        }
    }
    half_done(left);
}

/// D06: ours closes every connection of the port, also those that it dialed.
fn closes_all(left: &mut Left<'_>) {
    let accepted = left.accepted();
    for part in 0..left.parts.len() {
        let revokes = left.parts[part].theirs.iter().any(|event| {
            matches!(event, Event::Returned { op, .. } | Event::Failed { op, .. } if op == "revoke")
        });
        if !revokes {
            continue;
        }
        // Where the accepting half is revoked the original closes both.
        let here = |event: &Event| match event {
            Event::Call { method, args, .. } if method == "onClose" => {
                let [half, reason] = [args.first()?, args.get(1)?];
                let dialed = !accepted.contains(half);
                match reason.trim_matches('"') {
                    "Revoked" if dialed => mirrored(half),
                    "RemoteRevoked" if !dialed => Some(half.clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        let ours = &left.parts[part].ours;
        let both_revoked = |half: &String| {
            ours.iter().any(|event| match event {
                Event::Call { method, args, .. } => {
                    method == "onClose"
                        && args.first() == Some(half)
                        && args.get(1).is_some_and(|reason| reason == "\"Revoked\"")
                }
                _ => false,
            })
        };
        let dialed: Vec<_> =
            ours.iter().filter_map(here).filter(|half| !both_revoked(half)).collect();
        left.take_extra("D06", |item| {
            item.part == part && here(&item.event).is_some_and(|half| dialed.contains(&half))
        });
    }
}

/// D12: a revoke that throws there is done here, and its name free.
fn half_done(left: &mut Left<'_>) {
    let half: Vec<_> = left
        .ends()
        .into_iter()
        .filter(|ends| ends.op == "revoke" && ends.theirs.kind() == Some(Kind::Thrown))
        .filter(|ends| ends.ours.value().is_some())
        .collect();
    for ends in half {
        let told = left.parts[ends.our_part].ours.iter().any(|event| {
            ["onRemove", "onRevoke", "onListenRemove"].iter().any(|name| event.calls(name))
        });
        if told {
            left.excuse(&ends, "D12");
        }
    }
    if !left.codes.contains("D12") {
        return;
    }
    for ends in left.ends() {
        let (theirs, ours) = (&ends.theirs, &ends.ours);
        match ends.op.as_str() {
            // The second revoke finishes there what the first had done here.
            "revoke" if ours.kind() == Some(Kind::AlreadyRevoked) => {
                let part = ends.their_part;
                left.excuse(&ends, "D12");
                left.take_missing("D12", |item| {
                    item.part == part
                        && (item.event.calls("onRevoke") || item.event.calls("onRemove"))
                });
            }
            // The name is free, so that this is another port.
            "bind" | "allocate" => {
                let number = |text: &str| text.split('#').next().map(str::to_owned);
                if let (End::Value(theirs), End::Value(ours)) = (theirs, ours)
                    && number(theirs) == number(ours)
                {
                    left.excuse(&ends, "D12");
                }
            }
            "addListener" if theirs.kind() == Some(Kind::Revoked) && ours.value().is_some() => {
                let part = ends.our_part;
                left.excuse(&ends, "D12");
                left.take_extra("D12", |item| item.part == part && item.event.calls("onListen"));
            }
            _ => {}
        }
    }
    for part in 0..left.parts.len() {
        let revokes = left.parts[part]
            .ours
            .iter()
            .any(|event| matches!(event, Event::Returned { op, .. } if op == "revoke"));
        if revokes {
            left.take_extra("D12", |item| {
                item.part == part && item.event.calls("onRemove") && is_another(&item.event)
            });
        }
    }
}

/// Whether a call is about a port that was bound again.
fn is_another(event: &Event) -> bool {
    event.subject().is_some_and(|subject| subject.contains('#'))
}
