//! Version 1: one record may hold both sides of a call; what happened on which is told by annotations with fixed names
//! (`cs` client send, `sr` server receive, `ss`, `cr`; `ms`, `mr` messages; `ws`, `wr` bytes on the wire), addresses of
//! the others by binary annotations (`ca` client, `sa` server, `ma` broker).
//! (<https://zipkin.io/zipkin-api/#/default/post_spans>, `zipkinCore.thrift`)

use trefoil_model::SpanKind;

use super::{Draft, Endpoint};

pub(super) struct Annotation {
    pub(super) time_us: u64,
    pub(super) value: String,
    pub(super) endpoint: Endpoint,
}

pub(super) struct BinaryAnnotation {
    pub(super) key: String,
    pub(super) value: String,
    /// The value is a boolean, as that of an address is.
    pub(super) is_true: bool,
    pub(super) endpoint: Endpoint,
}

/// A record of version 1; of the draft ids, name and times count.
pub(super) struct Source {
    pub(super) draft: Draft,
    pub(super) annotations: Vec<Annotation>,
    pub(super) binary: Vec<BinaryAnnotation>,
}

/// One side of a call. Times are 0 when absent.
struct Side {
    draft: Draft,
    begin_us: u64,
    end_us: u64,
}

struct Sides {
    blank: Draft,
    all: Vec<Side>,
}

impl Sides {
    /// The side of a kind; one is made when there is none. There are at most four.
    fn of_kind(&mut self, kind: SpanKind, endpoint: &Endpoint) -> &mut Side {
        let at = self.all.iter().position(|s| s.draft.kind == kind).unwrap_or_else(|| {
            self.all.push(Side { draft: Draft { kind, ..self.blank.clone() }, begin_us: 0, end_us: 0 });
            self.all.len() - 1
        });
        let side = &mut self.all[at];
        settle(&mut side.draft, endpoint);
        side
    }

    /// The side to which an endpoint belongs, the first one when it is nobody's.
    fn of_endpoint(&mut self, endpoint: &Endpoint) -> &mut Draft {
        if self.all.is_empty() {
            self.all.push(Side { draft: self.blank.clone(), begin_us: 0, end_us: 0 });
        }
        let found = self.all.iter().position(|s| s.draft.local.service == endpoint.service);
        let draft = &mut self.all[found.unwrap_or(0)].draft;
        settle(draft, endpoint);
        draft
    }

    fn get(&mut self, kind: SpanKind) -> Option<&mut Draft> {
        self.all.iter_mut().map(|s| &mut s.draft).find(|d| d.kind == kind)
    }
}

/// Takes an endpoint for the local one unless a better one is known.
fn settle(draft: &mut Draft, endpoint: &Endpoint) {
    let knows_nothing = draft.local == Endpoint::default();
    if knows_nothing || (draft.local.service.is_empty() && !endpoint.service.is_empty()) {
        draft.local = endpoint.clone();
    }
}

/// The kind that an annotation tells, and whether it is the beginning.
fn core(value: &str) -> Option<(SpanKind, bool)> {
    Some(match value {
        "cs" => (SpanKind::Client, true),
        "cr" => (SpanKind::Client, false),
        "sr" => (SpanKind::Server, true),
        "ss" => (SpanKind::Server, false),
        "ms" => (SpanKind::Producer, true),
        "ws" => (SpanKind::Producer, false),
        "wr" => (SpanKind::Consumer, true),
        "mr" => (SpanKind::Consumer, false),
        _ => return None,
    })
}

impl Source {
    /// One span for each side of the record, at least one.
    pub(super) fn drafts(self) -> Vec<Draft> {
        let Self { draft, annotations, binary } = self;
        let (start_us, duration_us) = (draft.start_us, draft.duration_us);
        let blank = Draft { start_us: 0, duration_us: 0, ..draft };
        let mut sides = Sides { blank, all: Vec::new() };
        // Bytes on the wire tell a time of a message only where there is a message.
        let has = |value: &str| annotations.iter().any(|a| a.value == value);
        let (has_ms, has_mr) = (has("ms"), has("mr"));
        let core = |value: &str| {
            core(value).filter(|(kind, _)| match kind {
                SpanKind::Producer => has_ms,
                SpanKind::Consumer => has_mr,
                _ => true,
            })
        };
        let (cores, others): (Vec<_>, Vec<_>) = annotations.into_iter().partition(|a| core(&a.value).is_some());
        for annotation in &cores {
            let Some((kind, is_begin)) = core(&annotation.value) else { continue };
            let side = sides.of_kind(kind, &annotation.endpoint);
            *(if is_begin { &mut side.begin_us } else { &mut side.end_us }) = annotation.time_us;
        }
        for annotation in others {
            sides.of_endpoint(&annotation.endpoint).annotations.push((annotation.time_us, annotation.value));
        }
        let (mut client, mut server, mut broker) = (None, None, None);
        for annotation in binary {
            match annotation.key.as_str() {
                "ca" if annotation.is_true => client = Some(annotation.endpoint),
                "sa" if annotation.is_true => server = Some(annotation.endpoint),
                "ma" if annotation.is_true => broker = Some(annotation.endpoint),
                _ => {
                    let draft = sides.of_endpoint(&annotation.endpoint);
                    // The name of a local component may be empty: then only its endpoint counts.
                    if annotation.key != "lc" || !annotation.value.is_empty() {
                        draft.tags.insert(annotation.key, annotation.value);
                    }
                }
            }
        }
        set_remotes(&mut sides, client, server, broker);
        set_times(&mut sides.all, start_us, duration_us);
        sides.all.into_iter().map(|s| s.draft).collect()
    }
}

fn set_remotes(sides: &mut Sides, client: Option<Endpoint>, server: Option<Endpoint>, broker: Option<Endpoint>) {
    let is_call = sides.all.iter().any(|s| matches!(s.draft.kind, SpanKind::Client | SpanKind::Server));
    if is_call {
        if let (Some(mut client), Some(draft)) = (client, sides.get(SpanKind::Server)) {
            // Some servers name themselves with the client's port: that is no call to oneself.
            if client.service == draft.local.service {
                client.service = String::new();
            }
            draft.remote = client;
        }
        if let (Some(server), Some(draft)) = (server, sides.get(SpanKind::Client)) {
            draft.remote = server;
        }
    } else {
        match (client, server) {
            (Some(client), Some(server)) => sides.of_endpoint(&client).remote = server,
            (None, Some(server)) => sides.of_endpoint(&Endpoint::default()).remote = server,
            (Some(client), None) => {
                let draft = sides.of_endpoint(&Endpoint::default());
                draft.remote = client;
                if draft.kind == SpanKind::Unspecified {
                    draft.kind = SpanKind::Server;
                }
            }
            (None, None) => {
                sides.of_endpoint(&Endpoint::default());
            }
        }
    }
    for kind in [SpanKind::Producer, SpanKind::Consumer] {
        if let (Some(broker), Some(draft)) = (broker.as_ref(), sides.get(kind)) {
            draft.remote = broker.clone();
        }
    }
}

/// The record's own times are those of the side that began it.
fn set_times(sides: &mut [Side], start_us: u64, duration_us: u64) {
    let begins = |s: &Side| matches!(s.draft.kind, SpanKind::Client | SpanKind::Producer);
    let owner = sides.iter().position(begins).unwrap_or(0);
    let several = sides.len() > 1;
    for (i, side) in sides.iter_mut().enumerate() {
        let between = if side.begin_us == 0 { 0 } else { side.end_us.saturating_sub(side.begin_us) };
        let begin = if side.begin_us == 0 { side.end_us } else { side.begin_us };
        let draft = &mut side.draft;
        (draft.start_us, draft.duration_us) = (begin, between);
        if i == owner && start_us != 0 {
            draft.start_us = start_us;
            draft.duration_us = if duration_us == 0 { between } else { duration_us };
        }
        // Without a flag of its own, version 1 told by the absence of the time that another began the span.
        draft.shared = i != owner || (!several && draft.kind == SpanKind::Server && start_us == 0);
    }
}
