//! What the documentation says of limits is what they are.

use std::time::Duration;

use network::Limits;

const PAGES: [&str; 2] = [include_str!("../README.md"), include_str!("../docs/limits.md")];

fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{} {name}", bytes / unit))
}

fn count(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

fn time(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

#[test]
fn the_pages_show_the_defaults() {
    let limits = Limits::default();
    let rows = [
        ("max_record_len", size(limits.max_record_len)),
        ("max_ack_len", size(limits.max_ack_len)),
        ("window_records", count(limits.window_records as usize)),
        ("window_bytes", size(limits.window_bytes as usize)),
        ("memory", size(limits.memory)),
        ("connect_time", time(limits.connect_time)),
        ("handshake_time", time(limits.handshake_time)),
        ("accept_time", time(limits.accept_time)),
        ("keepalive_time", time(limits.keepalive_time)),
        ("idle_time", time(limits.idle_time)),
        ("close_time", time(limits.close_time)),
        ("max_connections", count(limits.max_connections)),
        ("max_handshakes", count(limits.max_handshakes)),
        ("max_ports", count(limits.max_ports)),
    ];
    // `Debug` shows every field.
    let fields = format!("{limits:?}").matches(": ").count();
    assert_eq!(rows.len(), fields, "a limit is missing here: {limits:?}");
    for page in PAGES {
        for (name, value) in &rows {
            let row = format!("| `{name}` | {value} |");
            assert!(page.contains(&row), "no row {row}");
        }
    }
}

#[test]
fn the_page_shows_what_is_fixed() {
    let page = PAGES[1];
    let policy = count(network::AcceptPolicy::DEFAULT_HANDSHAKES_PER_SOURCE);
    assert!(page.contains(&format!("| `with_max_handshakes_per_source` | {policy} |")));
    let policy = count(network::AcceptPolicy::DEFAULT_CONNECTIONS_PER_SOURCE);
    assert!(page.contains(&format!("| `with_max_per_source` | {policy} |")));
    let waiting = count(network::Attempts::MAX_WAITING);
    assert!(page.contains(&format!("| attempts that wait to be pulled | {waiting} |")));
    let share = count(network::Attempts::MAX_WAITING_PER_SOURCE);
    assert!(page.contains(&format!("| of one source | {share} |")));
    let sources = count(network::AcceptPolicy::MAX_RATED_SOURCES);
    assert!(page.contains(&format!("| sources that a rate remembers | {sources} |")));
    let opening = size(network::wire::MAX_OPENING_LEN);
    assert!(page.contains(&format!("| an opening message | {opening} |")));
    let (len, components) = (count(network::Endpoint::MAX_LEN), network::Endpoint::MAX_COMPONENTS);
    assert!(page.contains(&format!("| an endpoint | {len} bytes, {components} components |")));
    let text = count(network::Refusal::MAX_LEN);
    assert!(page.contains(&format!("| the text of a refusal or a close | {text} bytes |")));
    assert!(page.contains(&format!("| a frame | {} |", size(Limits::MAX_FRAME_LEN))));
}
