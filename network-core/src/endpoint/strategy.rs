//! Generators of address text for property tests.

use proptest::prelude::*;
use proptest::sample::select;

use super::Kind;

/// Text that parses as an endpoint, not always canonical: known, valueless and unknown components,
/// with or without an end that has no value.
pub(crate) fn endpoint_text() -> impl Strategy<Value = String> {
    let end = prop_oneof![
        4 => Just(String::new()),
        1 => unknown_protocol().prop_map(|protocol| format!("/{protocol}")),
        1 => unknown_protocol().prop_map(|protocol| format!("/{protocol}/")),
        1 => Just("/tcp/".to_owned()),
    ];
    (component(), prop::collection::vec(component(), 0..6), end)
        .prop_map(|(first, more, end)| [first, more.concat(), end].concat())
}

/// Any text at all, and text made of what the parser looks for.
pub(crate) fn wild_text() -> impl Strategy<Value = String> {
    const TOKENS: &[&str] = &[
        "/",
        "/",
        "/",
        "/",
        "//",
        "*",
        "**",
        "/*",
        "tcp",
        "/udp/",
        "/ip4/",
        "1.2.3.4",
        "/ip6/",
        "::1",
        "::ffff:1.2.3.4",
        "0",
        "65536",
        "/dns/",
        "A.b.",
        "-",
        "/p2p/",
        "12D3",
        "/tls",
        "/quic-v1/",
        "local",
        "é",
        "\u{85}",
        "\n",
        " ",
        "\u{1F980}",
    ];
    prop_oneof![
        any::<String>(),
        "/\\PC{0,40}",
        prop::collection::vec(select(TOKENS), 0..24).prop_map(|tokens| tokens.concat()),
        (0..5000_usize).prop_map(|slashes| "/".repeat(slashes)),
        (0..3000_usize, select(TOKENS)).prop_map(|(count, token)| token.repeat(count)),
    ]
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| format!("/ip4/{ip}")),
        any::<[u16; 8]>().prop_map(|h| {
            let [a, b, c, d, e, f, g, h] = h;
            format!("/ip6/{a:x}:{b:X}:{c:04x}:{d:x}:{e:x}:{f:x}:{g:x}:{h:x}")
        }),
        select(&["/ip6/0:0:0::1", "/ip6/::FFFF:1.2.3.4", "/ip4/1.2.3.4"][..])
            .prop_map(str::to_owned),
        (select(&["tcp", "udp"][..]), any::<u16>()).prop_map(|(p, port)| format!("/{p}/{port}")),
        (
            select(&["dns", "dns4", "dnsaddr"][..]),
            "[a-zA-Z0-9_]{1,9}(\\.[a-zA-Z0-9]{1,9}){0,2}\\.?"
        )
            .prop_map(|(p, host)| format!("/{p}/{host}")),
        "/p2p/[1-9A-HJ-NP-Za-km-z]{1,52}",
        select(&["/tls", "/ws", "/quic-v1", "/p2p-circuit"][..]).prop_map(str::to_owned),
        (select(&["local", "port", "ibc-port"][..]), "[a-b]{1,2}")
            .prop_map(|(p, value)| format!("/{p}/{value}")),
        (unknown_protocol(), "[^/\\p{Cc}]{1,8}").prop_map(|(p, value)| format!("/{p}/{value}")),
    ]
}

fn unknown_protocol() -> impl Strategy<Value = String> {
    let known = |protocol: &String| Kind::of(protocol) != Kind::Other;
    "[^/*\\p{Cc}]{1,8}|[a-z-]{1,8}"
        .prop_filter("known protocols have rules of their own", move |p| !known(p))
}
