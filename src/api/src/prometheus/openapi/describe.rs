//! What is said about each route of Prometheus' API: what it does, what it takes, what its answer holds.

/// A value that a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Time,
    Duration,
    Whole,
    Flag,
    /// Given any number of times.
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A parameter in the URL or the form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) about: &'static str,
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, required: false, about }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, required: true, about }
}

/// What an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The envelope with `data` of a schema in `components`.
    Data(&'static str),
    /// 204 and nothing.
    Nothing,
    /// Something of a media type.
    Other(&'static str),
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) about: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) answer: Answer,
    /// Media type of a body that is no form.
    pub(super) body: Option<&'static str>,
}

const fn op(
    path: &'static str,
    tag: &'static str,
    about: &'static str,
    parameters: &'static [Parameter],
    answer: Answer,
) -> Operation {
    Operation { path, tag, about, parameters, answer, body: None }
}

const QUERY: Parameter = must("query", Kind::Text, "A PromQL expression.");
const TIMEOUT: Parameter = may("timeout", Kind::Duration, "Give up after this time; at most the server's own limit.");
const LOOKBACK: Parameter = may("lookback_delta", Kind::Duration, "How far back the last sample of a series counts.");
const STATS: Parameter = may("stats", Kind::Word(&["true", "all"]), "Tell what the query cost.");
const START: Parameter = may("start", Kind::Time, "Begin of the range.");
const END: Parameter = may("end", Kind::Time, "End of the range, included.");
const FROM: Parameter = must("start", Kind::Time, "First step.");
const TO: Parameter = must("end", Kind::Time, "No step is later.");
const STEP: Parameter = must("step", Kind::Duration, "Time between steps.");
const MATCH: Parameter = may("match[]", Kind::Texts, "Selectors of series; a series that one of them takes is in.");
const MUST_MATCH: Parameter =
    must("match[]", Kind::Texts, "Selectors of series; a series that one of them takes is in.");
const LIMIT: Parameter = may("limit", Kind::Whole, "Most results; 0 for as many as the server gives.");
const SEARCH: Parameter = may("search[]", Kind::Texts, "What somebody types; all of it must be found.");
const THRESHOLD: Parameter = may("fuzz_threshold", Kind::Whole, "How alike a name must be, 0 to 100.");
const ALGORITHM: Parameter =
    may("fuzz_alg", Kind::Word(&["subsequence", "jarowinkler"]), "How likeness is measured. Default subsequence.");
const CASE: Parameter = may("case_sensitive", Kind::Flag, "Whether capitals matter. Default true.");
const SORT: Parameter = may("sort_by", Kind::Word(&["alpha", "score"]), "Order of the results.");
const DIRECTION: Parameter = may("sort_dir", Kind::Word(&["asc", "dsc"]), "Direction of sort_by=alpha.");
const SCORE: Parameter = may("include_score", Kind::Flag, "Tell how alike each result is.");
const METADATA: Parameter = may("include_metadata", Kind::Flag, "Tell type, help and unit of each metric.");
const BATCH: Parameter = may("batch_size", Kind::Whole, "Results in a line of the answer.");
const LABEL: Parameter = must("label", Kind::Text, "Name of the label.");
const POOL: Parameter = must("scrapePool", Kind::Text, "Name of the scrape pool.");

const LINES: Answer = Answer::Other("application/x-ndjson");
const PLAIN: Answer = Answer::Other("text/plain");

/// All routes of this dialect, in the order of the description.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "/api/v1/query",
        "query",
        "Evaluates an expression at one time.",
        &[QUERY, may("time", Kind::Time, "When. Default now."), TIMEOUT, LIMIT, LOOKBACK, STATS],
        Answer::Data("QueryResult"),
    ),
    op(
        "/api/v1/query_range",
        "query",
        "Evaluates an expression at the steps of a range.",
        &[
            QUERY,
            FROM,
            TO,
            STEP,
            TIMEOUT,
            LIMIT,
            LOOKBACK,
            STATS,
            may("nocache", Kind::Flag, "Evaluate everything anew instead of only what is not known yet."),
        ],
        Answer::Data("QueryResult"),
    ),
    op(
        "/api/v1/query_exemplars",
        "query",
        "The exemplars of the series that an expression selects; 204 when it selects none.",
        &[QUERY, START, END],
        Answer::Data("Exemplars"),
    ),
    op("/api/v1/format_query", "query", "Lays an expression out.", &[QUERY], Answer::Data("Text")),
    op("/api/v1/parse_query", "query", "The syntax tree of an expression.", &[QUERY], Answer::Data("Object")),
    op(
        "/api/v1/explain",
        "query",
        "Evaluates an expression, at one time or over a range, and tells what was read and where the time went.",
        &[
            QUERY,
            may("time", Kind::Time, "When. Default now."),
            START,
            END,
            may("step", Kind::Duration, "Time between steps; with start and end."),
            TIMEOUT,
        ],
        Answer::Data("Object"),
    ),
    op(
        "/api/v1/series",
        "series",
        "Label sets of series.",
        &[MUST_MATCH, START, END, LIMIT],
        Answer::Data("LabelSets"),
    ),
    op("/api/v1/labels", "labels", "Names of labels.", &[MATCH, START, END, LIMIT], Answer::Data("Texts")),
    op(
        "/api/v1/label/{name}/values",
        "labels",
        "Values of a label. A name that is not plain is written U__ and escaped: U__my_2e_name for my.name.",
        &[MATCH, START, END, LIMIT],
        Answer::Data("Texts"),
    ),
    op(
        "/api/v1/search/metric_names",
        "metadata",
        "Metric names that are like what somebody types, as lines of JSON.",
        &[SEARCH, MATCH, START, END, THRESHOLD, ALGORITHM, CASE, SORT, DIRECTION, SCORE, METADATA, LIMIT, BATCH],
        LINES,
    ),
    op(
        "/api/v1/search/label_names",
        "labels",
        "Label names that are like what somebody types, as lines of JSON.",
        &[SEARCH, MATCH, START, END, THRESHOLD, ALGORITHM, CASE, SORT, DIRECTION, SCORE, LIMIT, BATCH],
        LINES,
    ),
    op(
        "/api/v1/search/label_values",
        "labels",
        "Values of a label that are like what somebody types, as lines of JSON.",
        &[LABEL, SEARCH, MATCH, START, END, THRESHOLD, ALGORITHM, CASE, SORT, DIRECTION, SCORE, LIMIT, BATCH],
        LINES,
    ),
    op(
        "/api/v1/metadata",
        "metadata",
        "Type, help and unit of metrics.",
        &[
            may("metric", Kind::Text, "Only this metric."),
            may("limit", Kind::Whole, "Most metrics."),
            may("limit_per_metric", Kind::Whole, "Most entries of a metric."),
        ],
        Answer::Data("Metadata"),
    ),
    op(
        "/api/v1/targets",
        "targets",
        "What is scraped and what was dropped.",
        &[
            may("state", Kind::Word(&["active", "dropped", "any"]), "Which targets. Default any."),
            may("scrapePool", Kind::Text, "Only this scrape pool."),
        ],
        Answer::Data("Object"),
    ),
    op(
        "/api/v1/targets/metadata",
        "targets",
        "Metadata of metrics by target.",
        &[
            may("match_target", Kind::Text, "A selector of targets by their labels."),
            may("metric", Kind::Text, "Only this metric."),
            may("limit", Kind::Whole, "Most entries."),
        ],
        Answer::Data("Objects"),
    ),
    op(
        "/api/v1/targets/relabel_steps",
        "targets",
        "What each relabelling rule of a scrape pool makes of labels.",
        &[POOL, must("labels", Kind::Text, "The labels before, a JSON object of texts.")],
        Answer::Data("Object"),
    ),
    op("/api/v1/scrape_pools", "targets", "Names of the scrape pools.", &[], Answer::Data("Object")),
    op(
        "/api/v1/scrape_pools/config",
        "targets",
        "The configuration of a scrape pool, secrets masked.",
        &[POOL],
        Answer::Data("Yaml"),
    ),
    op(
        "/api/v1/rules",
        "rules",
        "Groups of rules and how they fare.",
        &[
            may("type", Kind::Word(&["alert", "record"]), "Only rules of this kind."),
            may("rule_name[]", Kind::Texts, "Only rules of these names."),
            may("rule_group[]", Kind::Texts, "Only these groups."),
            may("file[]", Kind::Texts, "Only groups of these files."),
            may("match[]", Kind::Texts, "Only rules whose labels a selector takes."),
            may("exclude_alerts", Kind::Flag, "Leave the alerts of the rules out."),
            may("group_limit", Kind::Whole, "Most groups in the answer."),
            may("group_next_token", Kind::Text, "Where the last answer says that the next one begins."),
        ],
        Answer::Data("Object"),
    ),
    op("/api/v1/alerts", "alerts", "Alerts that are pending or firing.", &[], Answer::Data("Object")),
    op("/api/v1/alertmanagers", "alerts", "Where alerts are sent.", &[], Answer::Data("Object")),
    op("/api/v1/status/config", "status", "The configuration in force, secrets masked.", &[], Answer::Data("Yaml")),
    op("/api/v1/status/flags", "status", "Flags and their values.", &[], Answer::Data("TextMap")),
    op("/api/v1/status/runtimeinfo", "status", "What the process is like.", &[], Answer::Data("Object")),
    op("/api/v1/status/buildinfo", "status", "What the binary is.", &[], Answer::Data("TextMap")),
    op(
        "/api/v1/status/tsdb",
        "status",
        "What the active series are made of.",
        &[may("limit", Kind::Whole, "Length of each list.")],
        Answer::Data("Object"),
    ),
    op(
        "/api/v1/status/cardinality",
        "status",
        "The same with series by job, and whose new series are refused.",
        &[may("limit", Kind::Whole, "Length of each list.")],
        Answer::Data("Object"),
    ),
    op("/api/v1/status/tsdb/blocks", "status", "The parts of the store.", &[], Answer::Data("Object")),
    op("/api/v1/status/walreplay", "status", "How far the journal is replayed.", &[], Answer::Data("Object")),
    op("/api/v1/status/limits", "status", "Limits, and how often each was hit.", &[], Answer::Data("Object")),
    op(
        "/api/v1/status/self_metrics",
        "status",
        "The server's own metrics.",
        &[may("metric_name_pattern", Kind::Text, "Only metrics whose whole name this regular expression matches.")],
        Answer::Data("Objects"),
    ),
    op("/api/v1/status/active_queries", "status", "Queries that wait or run.", &[], Answer::Data("Object")),
    op("/api/v1/status/active_queries/{id}/cancel", "admin", "Ends a query.", &[], Answer::Nothing),
    op(
        "/api/v1/status/top_queries",
        "status",
        "Queries that are asked most, take longest, and take most time in all.",
        &[
            may("limit", Kind::Whole, "Length of each list."),
            may("since", Kind::Time, "Leave out what was last asked before."),
        ],
        Answer::Data("Object"),
    ),
    op("/api/v1/features", "features", "Which optional parts are there.", &[], Answer::Data("Object")),
    op("/api/v1/notifications", "notifications", "What the operator should know.", &[], Answer::Data("Objects")),
    op(
        "/api/v1/notifications/live",
        "notifications",
        "The same and all changes, as server-sent events.",
        &[],
        Answer::Other("text/event-stream"),
    ),
    op(
        "/api/v1/openapi.yaml",
        "features",
        "This description.",
        &[may("openapi_version", Kind::Word(&["3.1", "3.2"]), "Version of OpenAPI. Default 3.1.")],
        Answer::Other("application/yaml"),
    ),
    op(
        "/api/v1/admin/tsdb/delete_series",
        "admin",
        "Deletes samples of series.",
        &[MUST_MATCH, START, END],
        Answer::Nothing,
    ),
    op("/api/v1/admin/tsdb/clean_tombstones", "admin", "Frees the room of deleted samples.", &[], Answer::Nothing),
    op(
        "/api/v1/admin/tsdb/snapshot",
        "admin",
        "Copies the stores so that the copy can be opened as a data folder.",
        &[may("skip_head", Kind::Flag, "Leave out what is in memory only.")],
        Answer::Data("Object"),
    ),
    Operation {
        path: "/api/v1/read",
        tag: "remote",
        about: "Remote read: samples or streamed chunks, as the client accepts.",
        parameters: &[],
        answer: Answer::Other("application/x-protobuf"),
        body: Some("application/x-protobuf"),
    },
    Operation {
        path: "/api/v1/write",
        tag: "remote",
        about: "Remote write, versions 1 and 2.",
        parameters: &[],
        answer: Answer::Nothing,
        body: Some("application/x-protobuf"),
    },
    Operation {
        path: "/api/v1/otlp/v1/metrics",
        tag: "otlp",
        about: "Metrics in OTLP.",
        parameters: &[],
        answer: Answer::Other("application/x-protobuf"),
        body: Some("application/x-protobuf"),
    },
    op("/federate", "series", "The newest sample of each series, for a scrape.", &[MATCH], PLAIN),
    op("/metrics", "status", "The server's own metrics, for a scrape.", &[], PLAIN),
    op("/version", "status", "What the binary is.", &[], Answer::Other("application/json")),
    op("/-/healthy", "status", "200 while the process runs.", &[], PLAIN),
    op("/-/ready", "status", "200 while it serves.", &[], PLAIN),
    op("/-/reload", "admin", "Reads the configuration again.", &[], PLAIN),
    op("/-/quit", "admin", "Ends the process.", &[], PLAIN),
];
