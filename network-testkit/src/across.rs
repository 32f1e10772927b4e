//! One test body, every backend.

use std::{fmt::Debug, future::Future};

use network_core::{Endpoint, Limits, Network};

use crate::{
    fixture::Fixture,
    run::{TIME_LIMIT, bounded},
};

/// Runs test bodies over several backends: one named test for each body and backend.
///
/// First come the backends, each with a name and a [`Fixture`]; one can have attributes,
/// such as a `cfg` for its Cargo feature. Then the bodies: each is an `async fn` that gets a
/// network, and an endpoint to listen at, which asks for a fresh name. It may return a
/// `Result`, and its attributes, such as `#[ignore]`, are those of its tests.
///
/// ```no_run
/// use network_core::{Bytes, Endpoint, Network, accept_all, handler_fn};
/// use network_loopback::Loopback;
/// use network_testkit::Simple;
///
/// network_testkit::across! {
///     on { loopback: Simple::new("/local/", |network| network.protocol(Loopback::new())); }
///
///     async fn hello(network: Network, listen: Endpoint) {
///         let server = network.bind(listen.clone()).await.unwrap();
///         let echo = handler_fn(|record: Bytes| async move { Ok(record) });
///         server.listen(accept_all(echo)).await.unwrap();
///         let client = network.bind(listen).await.unwrap();
///         let connection = client.connect(server.local_endpoint(), ()).await.unwrap();
///         assert_eq!(connection.send("hello").await.unwrap(), "hello");
///     }
/// }
/// # fn main() {}
/// ```
///
/// This expands to the test `hello::loopback`.
#[macro_export]
macro_rules! across {
    (on { $($backends:tt)+ } $($bodies:tt)+) => {
        $crate::__across! { { $($backends)+ } $($bodies)+ }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __across {
    ($backends:tt) => {};
    (
        $backends:tt
        $(#[$on:meta])*
        async fn $body:ident($($argument:tt)*) $(-> $outcome:ty)? $code:block
        $($bodies:tt)*
    ) => {
        #[allow(
            dead_code,
            clippy::unwrap_used,
            clippy::expect_used,
            reason = "a test, which may be left out"
        )]
        async fn $body($($argument)*) $(-> $outcome)? $code

        mod $body {
            $crate::__across_backends! { $body [$(#[$on])*] $backends }
        }

        $crate::__across! { $backends $($bodies)* }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __across_backends {
    ($body:ident $attributes:tt { $($(#[$on:meta])* $backend:ident: $fixture:expr;)+ }) => {
        /// Apart from the tests, whose names are those of fixtures as like as not.
        mod fixtures {
            #[allow(unused_imports, reason = "fixtures may use what is in scope")]
            use super::super::*;

            pub(super) struct Of;

            #[allow(dead_code, reason = "its tests may be left out")]
            impl Of {
                $(
                    $(#[$on])*
                    pub(super) fn $backend() -> impl $crate::Fixture {
                        $fixture
                    }
                )+
            }
        }

        $($crate::__across_test! { $body $attributes $(#[$on])* $backend })+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __across_test {
    ($body:ident [$(#[$of_body:meta])*] $(#[$on:meta])* $backend:ident) => {
        $(#[$of_body])*
        $(#[$on])*
        #[test]
        fn $backend() {
            $crate::run_body(
                concat!(stringify!($body), "::", stringify!($backend)),
                fixtures::Of::$backend(),
                super::$body,
            );
        }
    };
}

/// What a test body returns: nothing, or a `Result` with nothing in it.
pub trait Outcome: Send + 'static {
    /// Fails the test, if it failed.
    fn check(self);
}

impl Outcome for () {
    fn check(self) {}
}

impl<E: Debug + Send + 'static> Outcome for Result<(), E> {
    fn check(self) {
        self.unwrap();
    }
}

/// Runs a test body over a backend: what [`across!`](crate::across) expands to.
///
/// # Panics
/// If the body does, returns an error, or hangs.
pub fn run_body<Run>(
    name: &'static str,
    fixture: impl Fixture,
    body: impl FnOnce(Network, Endpoint) -> Run + Send + 'static,
) where
    Run: Future<Output: Outcome> + Send,
{
    bounded(name, TIME_LIMIT, async move {
        let network = fixture.network(Limits::default()).await;
        body(network, fixture.listen_at()).await.check();
    });
}
