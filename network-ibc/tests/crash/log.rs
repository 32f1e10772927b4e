//! What a host did, a line for each event. A line is written before what it tells of can have any
//! effect, and by one call: a process that is killed has written it or not.

use std::{fmt, fs::File, io::Write, path::Path, sync::Arc};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

#[derive(Clone)]
pub(crate) struct Log(Arc<File>);

impl Log {
    pub(crate) fn new(path: &Path) -> Self {
        Self(Arc::new(File::options().create_new(true).append(true).open(path).unwrap()))
    }

    pub(crate) fn line(&self, line: fmt::Arguments<'_>) {
        (&*self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Writes down the blocks that the ledger makes and what a solo machine signs, and other events for whoever looks for a mistake.
pub(crate) struct Blocks(pub(crate) Log);

impl Subscriber for Blocks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("network_ibc")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { height, time, hash, text } = fields;
        match event.metadata().target() {
            "network_ibc::ledger" => self.0.line(format_args!("block {height} {time} {hash}")),
            "network_ibc::host::face" => self.0.line(format_args!("signed{text}")),
            target => self.0.line(format_args!("# {target}{text}")),
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    height: u64,
    time: u64,
    hash: String,
    text: String,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "height" => self.height = value,
            "time" => self.time = value,
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "hash" => self.hash = format!("{value:?}"),
            name => self.text.push_str(&format!(" {name}={value:?}").replace('\n', " ")),
        }
    }
}
