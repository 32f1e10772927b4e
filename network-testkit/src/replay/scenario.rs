//! The format of a scenario file, one scenario a line.

use serde_json::{Map, Value};

use super::event::{Event, Fault};

/// Why a line is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The line is not JSON.
    #[error("the line is not json: {0}")]
    Json(String),
    /// Something that every scenario has is missing, or of another type.
    #[error("{0}")]
    Shape(String),
}

/// One recorded scenario: what was done, and what was seen.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub id: String,
    /// What it is about, in one word.
    pub family: String,
    /// What it is about, in a line.
    pub title: String,
    /// Codes of the original's defects that its trace shows.
    pub defects: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) trace: Vec<Segment>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) id: String,
    pub(super) op: String,
    pub(super) nowait: bool,
    pub(super) fields: Map<String, Value>,
}

/// What was seen until nothing more could happen after a step.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) step: String,
    pub(super) order: Order,
    pub(super) events: Vec<Event>,
}

/// How far the order of a segment's events is fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Total,
    /// Only these pairs, by place.
    Partial(Vec<(usize, usize)>),
    /// Not even the events are fixed.
    Schedule,
}

impl Scenario {
    /// Reads one line.
    ///
    /// # Errors
    /// The line is not of the format.
    pub fn parse(line: &str) -> Result<Self, FormatError> {
        let json: Value =
            serde_json::from_str(line).map_err(|error| FormatError::Json(error.to_string()))?;
        let defects = match json.get("defects") {
            None => Vec::new(),
            Some(list) => strings(list, "defects")?,
        };
        Ok(Self {
            id: text(&json, "id")?,
            family: text(&json, "family")?,
            title: text(&json, "title").unwrap_or_default(),
            defects,
            steps: steps(json.get("steps").unwrap_or(&Value::Null), |place| place.to_string())?,
            trace: array(&json, "trace")?.iter().map(segment).collect::<Result<_, _>>()?,
        })
    }
}

/// Reads steps; `name` makes the id of the one at a place, counted from 1.
pub(super) fn steps(
    json: &Value,
    name: impl Fn(usize) -> String,
) -> Result<Vec<Step>, FormatError> {
    let list = json.as_array().ok_or_else(|| shape("`steps` is no list"))?;
    list.iter()
        .enumerate()
        .map(|(at, step)| {
            let fields = step.as_object().ok_or_else(|| shape("a step is no object"))?.clone();
            Ok(Step {
                id: name(at + 1),
                op: text(step, "op")?,
                nowait: fields.get("nowait").and_then(Value::as_bool).unwrap_or(false),
                fields,
            })
        })
        .collect()
}

fn segment(json: &Value) -> Result<Segment, FormatError> {
    let events = array(json, "events")?.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let order = match text(json, "order")?.as_str() {
        "total" => Order::Total,
        "partial" => Order::Partial(before(json.get("before"), events.len())?),
        "schedule-dependent" => Order::Schedule,
        other => return Err(shape(format!("unknown order {other:?}"))),
    };
    Ok(Segment { step: text(json, "step")?, order, events })
}

fn before(json: Option<&Value>, events: usize) -> Result<Vec<(usize, usize)>, FormatError> {
    let pairs = json.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let place = |value: Option<&Value>| {
        let place = value.and_then(Value::as_u64).and_then(|place| usize::try_from(place).ok());
        place.filter(|place| *place < events).ok_or_else(|| shape("`before` names no event"))
    };
    pairs.iter().map(|pair| Ok((place(pair.get(0))?, place(pair.get(1))?))).collect()
}

fn event(json: &Value) -> Result<Event, FormatError> {
    let field = |name| text(json, name);
    Ok(match field("ev")?.as_str() {
        "cb" => Event::Call {
            who: field("who")?,
            method: field("m")?,
            args: strings(json.get("args").unwrap_or(&Value::Null), "args")?,
        },
        "ret" => Event::Returned { step: field("step")?, op: field("op")?, value: field("val")? },
        "err" => {
            let fault = Fault::of_original(&field("name")?, &field("msg")?);
            Event::Failed { step: field("step")?, op: field("op")?, fault }
        }
        "stalled" => Event::Stalled { step: field("step")? },
        "pending" => Event::Pending { step: field("step")? },
        other => return Err(shape(format!("unknown event {other:?}"))),
    })
}

fn text(json: &Value, name: &str) -> Result<String, FormatError> {
    let found = json.get(name).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| shape(format!("`{name}` is no string")))
}

fn array<'a>(json: &'a Value, name: &str) -> Result<&'a Vec<Value>, FormatError> {
    json.get(name).and_then(Value::as_array).ok_or_else(|| shape(format!("`{name}` is no list")))
}

fn strings(json: &Value, name: &str) -> Result<Vec<String>, FormatError> {
    let list = json.as_array().ok_or_else(|| shape(format!("`{name}` is no list")))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(|value| text(value).ok_or_else(|| shape("not a string"))).collect()
}

fn shape(problem: impl Into<String>) -> FormatError {
    FormatError::Shape(problem.into())
}
