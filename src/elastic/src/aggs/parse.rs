//! JSON to aggregations.

use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use super::bucket::{Key, steps};
use super::metric::{Metric, MetricKind};
use super::{
    Agg, Aggs, Choice, Composite, CompositeBy, CompositeSource, DateHistogram, Filters, Histogram, Kind, OneRange,
    Order, Ranges, Terms, pipeline,
};
use crate::Error;
use crate::date::{self, Format, Interval, Reader, Rounding};
use crate::doc::{Field, number};
use crate::dsl::{self, Context, flag, scalar_text};
use crate::hits::Show;
use crate::query::Test;
use crate::request::RESULT_WINDOW_MAX;
use crate::sort::Sort;

/// Aggregations of one level.
const AGGS_MAX: usize = 500;
/// Filters, ranges, sources, percentiles of one aggregation.
const ITEMS_MAX: usize = 1000;

type Object = Map<String, Json>;

/// The options of one aggregation, with its name for errors.
struct Options<'a> {
    name: &'a str,
    kind: &'a str,
    object: &'a Object,
    now_ms: i64,
}

impl Aggs {
    pub(crate) fn parse(json: &Json, context: &mut Context) -> Result<Self, Error> {
        let object = match json {
            Json::Object(object) => object,
            Json::Null => return Ok(Self::default()),
            _ => return Err(Error::parsing("Expected [START_OBJECT] under [aggs]")),
        };
        if object.len() > AGGS_MAX {
            return Err(Error::illegal(format!("more than {AGGS_MAX} aggregations on one level")));
        }
        let mut out = Vec::with_capacity(object.len());
        for (name, body) in object {
            out.push(context.deeper(|context| one(name, body, context))?);
        }
        let all = Self(out);
        pipeline::check(&all)?;
        Ok(all)
    }
}

fn one(name: &str, body: &Json, context: &mut Context) -> Result<Agg, Error> {
    if name.is_empty() || name.contains(['[', ']', '>']) {
        let name = date::cut(name);
        return Err(Error::parsing(format!(
            "Invalid aggregation name [{name}]. Aggregation names can contain any character except '[', ']', and '>'"
        )));
    }
    let Some(body) = body.as_object() else {
        return Err(Error::parsing(format!(
            "Aggregation definition for [{name} must be an object, expected [START_OBJECT]"
        )));
    };
    let (mut kind, mut subs, mut meta) = (None, Aggs::default(), None);
    for (key, value) in body {
        match key.as_str() {
            "aggs" | "aggregations" => subs = Aggs::parse(value, context)?,
            "meta" => meta = Some(value.clone()),
            kind_name => {
                if kind.is_some() {
                    return Err(Error::parsing(format!("Found two aggregation type definitions in [{name}]")));
                }
                let empty = Map::new();
                let object = match value {
                    Json::Object(object) => object,
                    // `filters` of old took a list here.
                    _ if kind_name == "filter" => return Err(Error::parsing(format!("[{name}] requires a query"))),
                    _ => &empty,
                };
                let options = Options { name, kind: kind_name, object, now_ms: context.now_ms };
                kind = Some(options.parse(value, context)?);
            }
        }
    }
    let kind = kind.ok_or_else(|| Error::parsing(format!("Missing definition for aggregation [{name}]")))?;
    if !subs.is_empty() && matches!(kind, Kind::Metric(_) | Kind::Pipeline(_)) {
        return Err(Error::illegal(format!("Aggregator [{name}] of this type cannot accept sub-aggregations")));
    }
    Ok(Agg { name: name.to_owned(), kind, subs, meta })
}

impl Options<'_> {
    fn parse(&self, json: &Json, context: &mut Context) -> Result<Kind, Error> {
        Ok(match self.kind {
            "terms" => Kind::Terms(self.terms()?),
            "multi_terms" => Kind::Terms(self.multi_terms()?),
            "date_histogram" => Kind::DateHistogram(self.date_histogram()?),
            "histogram" => Kind::Histogram(self.histogram()?),
            "filters" => Kind::Filters(self.filters(context)?),
            "filter" => Kind::Filter(dsl::parse(json, context)?),
            "range" => Kind::Ranges(self.ranges()?),
            "date_range" => Kind::Ranges(self.date_ranges()?),
            "missing" => Kind::Missing(self.field()?),
            "nested" | "reverse_nested" => Kind::Nested,
            "composite" => Kind::Composite(self.composite()?),
            "geohash_grid" | "geotile_grid" | "geohex_grid" | "geo_distance" | "geo_bounds" | "geo_centroid" => {
                return Err(Error::illegal(format!(
                    "aggregation [{}] of type [{}] is not supported: log records have no geo_point fields",
                    self.name, self.kind
                )));
            }
            "global"
            | "significant_terms"
            | "significant_text"
            | "rare_terms"
            | "sampler"
            | "random_sampler"
            | "diversified_sampler"
            | "auto_date_histogram"
            | "variable_width_histogram"
            | "scripted_metric"
            | "children"
            | "parent"
            | "adjacency_matrix"
            | "ip_range"
            | "ip_prefix"
            | "matrix_stats"
            | "t_test"
            | "boxplot"
            | "top_hits_by"
            | "string_stats"
            | "weighted_avg"
            | "categorize_text"
            | "frequent_item_sets"
            | "time_series" => {
                let Self { name, kind, .. } = self;
                return Err(Error::illegal(format!("aggregation [{name}] of type [{kind}] is not supported")));
            }
            kind => {
                if let Some(pipeline) = pipeline::parse(self.name, kind, self.object)? {
                    return Ok(Kind::Pipeline(pipeline));
                }
                match self.metric()? {
                    Some(metric) => Kind::Metric(metric),
                    None => {
                        let kind = date::cut(kind);
                        return Err(Error::parsing(format!("Unknown aggregation type [{kind}]")));
                    }
                }
            }
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        self.object.get(key).and_then(scalar_text)
    }

    fn bad(&self, key: &str) -> Error {
        Error::content(format!("[{}] failed to parse field [{key}] of aggregation [{}]", self.kind, self.name))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.text(key) {
            None => Ok(None),
            Some(text) => number(&text).map(Some).ok_or_else(|| self.bad(key)),
        }
    }

    fn count(&self, key: &str, default: u64) -> Result<u64, Error> {
        match self.number(key)? {
            None => Ok(default),
            Some(n) if n >= 0.0 => Ok(n as u64),
            Some(n) => {
                let Self { name, .. } = self;
                Err(Error::illegal(format!("[{key}] must be greater than or equal to 0. Found [{n}] in [{name}]")))
            }
        }
    }

    fn size(&self, default: usize) -> Result<usize, Error> {
        match self.count("size", default as u64)? {
            0 => Err(Error::illegal(format!("[size] must be greater than 0. Found [0] in [{}]", self.name))),
            n => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
        }
    }

    fn field(&self) -> Result<Field, Error> {
        if self.object.contains_key("script") {
            return Err(Error::illegal(format!("[script] of aggregation [{}] is not supported", self.name)));
        }
        match self.object.get("field").and_then(Json::as_str) {
            Some(field) if !field.is_empty() => Ok(Field::new(field)),
            _ => Err(Error::illegal(format!(
                "Required one of fields [field, script], but none were specified. (aggregation [{}])",
                self.name
            ))),
        }
    }

    fn format(&self) -> Result<Option<Format>, Error> {
        self.object.get("format").and_then(Json::as_str).map(Format::parse).transpose()
    }

    fn zone(&self) -> Result<TimeZone, Error> {
        self.object.get("time_zone").and_then(Json::as_str).map_or(Ok(TimeZone::UTC), date::zone)
    }

    fn orders(&self, default: Vec<Order>) -> Result<Vec<Order>, Error> {
        let items = match self.object.get("order") {
            None | Some(Json::Null) => return Ok(default),
            Some(Json::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut orders = Vec::new();
        for item in items.iter().take(ITEMS_MAX) {
            let item = item.as_object().ok_or_else(|| self.bad("order"))?;
            for (path, direction) in item {
                let is_descending = match direction.as_str().map(str::to_ascii_lowercase).as_deref() {
                    Some("asc") => false,
                    Some("desc") => true,
                    _ => return Err(Error::parsing("Unknown order direction")),
                };
                orders.push(match path.as_str() {
                    "_count" => Order::Count(is_descending),
                    "_key" | "_term" | "_time" => Order::Key(is_descending),
                    path => Order::Figure(steps(path), is_descending),
                });
            }
        }
        Ok(orders)
    }

    fn choice(&self, key: &str) -> Result<Option<Choice>, Error> {
        match self.object.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(pattern)) => {
                // As the query reads patterns.
                let target = crate::query::Target::all();
                match dsl::regexp(target, pattern, false, &mut Context::new(self.now_ms))? {
                    crate::query::Query::Leaf(leaf) => match leaf.test {
                        Test::Regexp(regex) => Ok(Some(Choice::Pattern(regex))),
                        _ => Err(self.bad(key)),
                    },
                    _ => Err(self.bad(key)),
                }
            }
            Some(Json::Array(values)) => Ok(Some(Choice::Values(values.iter().filter_map(scalar_text).collect()))),
            Some(_) => {
                Err(Error::illegal(format!("[{key}] of aggregation [{}] with partitions is not supported", self.name)))
            }
        }
    }

    fn terms(&self) -> Result<Terms, Error> {
        Ok(Terms {
            field: self.field()?,
            size: self.size(10)?,
            min_count: self.count("min_doc_count", 1)?,
            order: self.orders(vec![Order::Count(true)])?,
            missing: self.object.get("missing").and_then(Key::of_json),
            include: self.choice("include")?,
            exclude: self.choice("exclude")?,
            format: self.format()?,
            others: Vec::new(),
        })
    }

    fn multi_terms(&self) -> Result<Terms, Error> {
        let fields = self.object.get("terms").and_then(Json::as_array).ok_or_else(|| self.bad("terms"))?;
        let names = fields.iter().take(16).filter_map(|t| t.get("field").and_then(Json::as_str));
        let mut fields: Vec<Field> = names.map(Field::new).collect();
        if fields.len() < 2 {
            return Err(Error::illegal("multi term aggregation must have at least 2 terms"));
        }
        let field = fields.remove(0);
        Ok(Terms {
            field,
            size: self.size(10)?,
            min_count: self.count("min_doc_count", 1)?,
            order: self.orders(vec![Order::Count(true)])?,
            missing: None,
            include: None,
            exclude: None,
            format: None,
            others: fields,
        })
    }

    fn rounding(&self) -> Result<Rounding, Error> {
        let text = |key: &str| self.text(key);
        let interval = match (text("fixed_interval"), text("calendar_interval"), text("interval")) {
            (Some(fixed), None, None) => Interval::fixed(&fixed)?,
            (None, Some(calendar), None) => Interval::calendar(&calendar)?,
            // The parameter of old: either kind.
            (None, None, Some(either)) => match either.parse::<i64>() {
                Ok(ms) => Interval::fixed(&format!("{ms}ms"))?,
                Err(_) => Interval::calendar(&either).or_else(|_| Interval::fixed(&either))?,
            },
            (None, None, None) => {
                let reason = "Invalid interval specified, must be non-null and non-empty";
                return Err(Error::illegal(format!("{reason} (aggregation [{}])", self.name)));
            }
            _ => {
                return Err(Error::illegal(
                    "Cannot use [fixed_interval] with [calendar_interval] configuration option.",
                ));
            }
        };
        let offset_ms = match text("offset") {
            Some(offset) if !offset.is_empty() => {
                let plain = offset.parse().ok();
                plain.or_else(|| date::duration_ms(&offset)).ok_or_else(|| self.bad("offset"))?
            }
            _ => 0,
        };
        Ok(Rounding { interval, offset_ms, zone: self.zone()? })
    }

    /// A time of the options in milliseconds: a number or a text in the format.
    fn ms(&self, json: &Json, format: &Format, zone: &TimeZone, key: &str) -> Result<i64, Error> {
        match json {
            Json::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).ok_or_else(|| self.bad(key)),
            Json::String(text) => {
                let read = Reader { now_ms: self.now_ms, format, zone }.read(text, false);
                let either = Format::default();
                let read = read.or_else(|_| Reader { now_ms: self.now_ms, format: &either, zone }.read(text, false));
                read.map(date::floor_ms)
            }
            _ => Err(self.bad(key)),
        }
    }

    fn date_histogram(&self) -> Result<DateHistogram, Error> {
        let rounding = self.rounding()?;
        let format = self.format()?.unwrap_or_default();
        let bounds = |key: &str| -> Result<Option<(i64, i64)>, Error> {
            let Some(bounds) = self.object.get(key).and_then(Json::as_object) else { return Ok(None) };
            let end = |name: &str| match bounds.get(name) {
                None | Some(Json::Null) => Ok(None),
                Some(json) => self.ms(json, &format, &rounding.zone, key).map(Some),
            };
            match (end("min")?, end("max")?) {
                (Some(min), Some(max)) if min > max => Err(Error::illegal(format!(
                    "[{key}.min][{min}] cannot be greater than [{key}.max][{max}] for histogram aggregation [{}]",
                    self.name
                ))),
                (Some(min), Some(max)) => Ok(Some((min, max))),
                (None, None) => Ok(None),
                // Of one end alone, for hard bounds.
                (min, max) if key == "hard_bounds" => Ok(Some((min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX)))),
                (Some(one), None) | (None, Some(one)) => Ok(Some((one, one))),
            }
        };
        let (extended, hard) = (bounds("extended_bounds")?, bounds("hard_bounds")?);
        let missing_ms = match self.object.get("missing") {
            None | Some(Json::Null) => None,
            Some(json) => Some(self.ms(json, &format, &rounding.zone, "missing")?),
        };
        Ok(DateHistogram {
            field: self.field()?,
            min_count: self.count("min_doc_count", 0)?,
            extended,
            hard,
            missing_ms,
            is_keyed: flag(Some(self.object), "keyed"),
            order: self.orders(Vec::new())?,
            format,
            rounding,
        })
    }

    fn histogram(&self) -> Result<Histogram, Error> {
        let interval = self.number("interval")?.unwrap_or(0.0);
        if interval <= 0.0 {
            return Err(Error::illegal("[interval] must be >0 for histogram aggregation [histogram]"));
        }
        let bounds = |key: &str| {
            let bounds = self.object.get(key)?;
            let end = |name: &str| bounds.get(name).and_then(scalar_text).and_then(|t| number(&t));
            match (end("min"), end("max")) {
                (None, None) => None,
                (Some(one), None) | (None, Some(one)) if key == "extended_bounds" => Some((one, one)),
                (min, max) => Some((min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY))),
            }
        };
        Ok(Histogram {
            field: self.field()?,
            interval,
            offset: self.number("offset")?.unwrap_or(0.0),
            min_count: self.count("min_doc_count", 0)?,
            extended: bounds("extended_bounds"),
            hard: bounds("hard_bounds"),
            missing: self.number("missing")?,
            is_keyed: flag(Some(self.object), "keyed"),
            order: self.orders(Vec::new())?,
        })
    }

    fn filters(&self, context: &mut Context) -> Result<Filters, Error> {
        let mut filters = Vec::new();
        match self.object.get("filters") {
            Some(Json::Object(named)) => {
                for (name, query) in named {
                    filters.push((Some(name.clone()), dsl::parse(query, context)?));
                }
            }
            Some(Json::Array(list)) => {
                for query in list {
                    filters.push((None, dsl::parse(query, context)?));
                }
            }
            _ => return Err(self.bad("filters")),
        }
        if filters.len() > ITEMS_MAX {
            return Err(Error::illegal(format!("aggregation [{}] has more than {ITEMS_MAX} filters", self.name)));
        }
        let key = self.text("other_bucket_key");
        let has_other = flag(Some(self.object), "other_bucket") || key.is_some();
        let other = has_other.then(|| key.unwrap_or_else(|| "_other_".to_owned()));
        Ok(Filters { filters, other })
    }

    fn items<'o>(&'o self, key: &str) -> Result<&'o [Json], Error> {
        match self.object.get(key) {
            Some(Json::Array(items)) if items.len() <= ITEMS_MAX => Ok(items),
            Some(Json::Array(_)) => {
                Err(Error::illegal(format!("[{key}] of [{}] has more than {ITEMS_MAX} items", self.name)))
            }
            _ => Err(Error::illegal(format!("No [{key}] specified for the [{}] aggregation", self.name))),
        }
    }

    fn ranges(&self) -> Result<Ranges, Error> {
        let mut ranges = Vec::new();
        for item in self.items("ranges")? {
            let end = |key: &str| match item.get(key) {
                None | Some(Json::Null) => Ok(None),
                Some(json) => scalar_text(json).and_then(|t| number(&t)).map(Some).ok_or_else(|| self.bad(key)),
            };
            let key = item.get("key").and_then(scalar_text);
            ranges.push(OneRange { key, from: end("from")?, to: end("to")? });
        }
        let is_keyed = flag(Some(self.object), "keyed");
        Ok(Ranges { field: self.field()?, ranges, missing: self.number("missing")?, is_keyed, format: None })
    }

    fn date_ranges(&self) -> Result<Ranges, Error> {
        let (format, zone) = (self.format()?.unwrap_or_default(), self.zone()?);
        let mut ranges = Vec::new();
        for item in self.items("ranges")? {
            let end = |key: &str| match item.get(key) {
                None | Some(Json::Null) => Ok(None),
                Some(json) => self.ms(json, &format, &zone, key).map(|ms| Some(ms as f64)),
            };
            let key = item.get("key").and_then(scalar_text);
            ranges.push(OneRange { key, from: end("from")?, to: end("to")? });
        }
        let missing = match self.object.get("missing") {
            None | Some(Json::Null) => None,
            Some(json) => Some(self.ms(json, &format, &zone, "missing")? as f64),
        };
        let is_keyed = flag(Some(self.object), "keyed");
        Ok(Ranges { field: self.field()?, ranges, missing, is_keyed, format: Some((format, zone)) })
    }

    fn composite(&self) -> Result<Composite, Error> {
        let mut sources = Vec::new();
        for item in self.items("sources")? {
            let one = item.as_object().and_then(|o| o.iter().next()).ok_or_else(|| self.bad("sources"))?;
            let (name, body) = one;
            let inner = body.as_object().and_then(|o| o.iter().next()).ok_or_else(|| self.bad("sources"))?;
            let (kind, Json::Object(object)) = inner else { return Err(self.bad("sources")) };
            let options = Options { name, kind, object, now_ms: self.now_ms };
            let by = match kind.as_str() {
                "terms" => CompositeBy::Terms(options.field()?),
                "date_histogram" => CompositeBy::Date(options.field()?, options.rounding()?, options.format()?),
                "histogram" => {
                    let interval =
                        options.number("interval")?.filter(|i| *i > 0.0).ok_or_else(|| self.bad("interval"))?;
                    CompositeBy::Histogram(options.field()?, interval)
                }
                other => return Err(Error::parsing(format!("invalid source type: {}", date::cut(other)))),
            };
            sources.push(CompositeSource {
                name: name.clone(),
                by,
                is_descending: object.get("order").and_then(Json::as_str) == Some("desc"),
                takes_missing: flag(Some(object), "missing_bucket"),
            });
        }
        if sources.is_empty() || sources.len() > 16 {
            return Err(Error::illegal("Composite [sources] must have 1 to 16 items"));
        }
        let after = match self.object.get("after").and_then(Json::as_object) {
            None => None,
            Some(after) => {
                let mut keys = Vec::new();
                for source in &sources {
                    let json = after.get(&source.name).ok_or_else(|| self.bad("after"))?;
                    let key = match (&source.by, json) {
                        (_, Json::Null) => None,
                        (CompositeBy::Date(_, rounding, format), json) => {
                            let format = format.clone().unwrap_or_default();
                            Some(Key::Int(self.ms(json, &format, &rounding.zone, "after")?))
                        }
                        (CompositeBy::Histogram(..), json) => {
                            Some(Key::float(json.as_f64().ok_or_else(|| self.bad("after"))?))
                        }
                        (CompositeBy::Terms(_), json) => Some(Key::of_json(json).ok_or_else(|| self.bad("after"))?),
                    };
                    keys.push(key);
                }
                Some(keys)
            }
        };
        Ok(Composite { sources, size: self.size(10)?, after })
    }

    fn numbers(&self, key: &str, default: &[f64]) -> Result<Vec<f64>, Error> {
        match self.object.get(key) {
            None | Some(Json::Null) => Ok(default.to_vec()),
            Some(Json::Array(items)) if !items.is_empty() && items.len() <= ITEMS_MAX => {
                let one = |json: &Json| scalar_text(json).and_then(|t| number(&t)).ok_or_else(|| self.bad(key));
                items.iter().map(one).collect()
            }
            Some(_) => Err(Error::illegal(format!("[{key}] must not be empty: [{}]", self.name))),
        }
    }

    /// `None` when there is no such metric.
    fn metric(&self) -> Result<Option<Metric>, Error> {
        let is_keyed = !matches!(self.object.get("keyed"), Some(Json::Bool(false)));
        let kind = match self.kind {
            "value_count" | "count" => MetricKind::Count,
            "avg" => MetricKind::Avg,
            "sum" => MetricKind::Sum,
            "min" => MetricKind::Min,
            "max" => MetricKind::Max,
            "stats" => MetricKind::Stats,
            "extended_stats" => MetricKind::ExtendedStats { sigma: self.number("sigma")?.unwrap_or(2.0) },
            "cardinality" => MetricKind::Cardinality,
            "percentiles" => {
                let percents = self.numbers("percents", &[1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0])?;
                if percents.iter().any(|p| !(0.0..=100.0).contains(p)) {
                    return Err(Error::illegal(format!(
                        "percent must be in [0,100], got {percents:?}: [{}]",
                        self.name
                    )));
                }
                MetricKind::Percentiles { percents, is_keyed }
            }
            "percentile_ranks" => MetricKind::PercentileRanks { values: self.numbers("values", &[])?, is_keyed },
            "median_absolute_deviation" => MetricKind::MedianAbsoluteDeviation,
            "top_metrics" => {
                let items = match self.object.get("metrics") {
                    Some(Json::Array(items)) => items.as_slice(),
                    Some(one) => std::slice::from_ref(one),
                    None => return Err(Error::illegal("Required [metrics]")),
                };
                let names = items.iter().take(100).filter_map(|m| m.get("field").and_then(Json::as_str));
                let fields: Vec<String> = names.map(str::to_owned).collect();
                let sort = self.object.get("sort").ok_or_else(|| Error::illegal("Required [sort]"))?;
                let size = self.size(1)?;
                if size > 10 {
                    return Err(Error::illegal(format!(
                        "[top_metrics.size] must not be more than [10] but was [{size}]"
                    )));
                }
                return Ok(Some(Metric {
                    field: None,
                    missing: None,
                    kind: MetricKind::TopMetrics { fields, size, sort: Sort::parse(sort)? },
                }));
            }
            "top_hits" => {
                let sort = self.object.get("sort").map_or_else(|| Ok(Sort::default()), Sort::parse)?;
                let (from, size) = (self.count("from", 0)?, self.count("size", 3)?);
                let (from, size) = (from.min(100_000) as usize, size.min(100_000) as usize);
                if from + size > RESULT_WINDOW_MAX.min(100) {
                    return Err(Error::illegal(format!(
                        "Top hits result window is too large, the top hits aggregator [{}]'s from + size must be less than or \
                         equal to: [100] but was [{}].",
                        self.name,
                        from + size
                    )));
                }
                let show = Box::new(Show::parse(self.object)?);
                return Ok(Some(Metric {
                    field: None,
                    missing: None,
                    kind: MetricKind::TopHits { from, size, sort, show },
                }));
            }
            "rate" => {
                let unit = self.text("unit").unwrap_or_else(|| "second".to_owned());
                let interval = match unit.as_str() {
                    "second" | "1s" => Interval::Fixed(1000),
                    unit => Interval::calendar(unit).map_err(|_| {
                        let unit = date::cut(unit);
                        Error::illegal(format!("Unsupported unit {unit}"))
                    })?,
                };
                let is_count = self.object.get("mode").and_then(Json::as_str) == Some("value_count");
                let field = if self.object.contains_key("field") { Some(self.field()?) } else { None };
                let kind = MetricKind::Rate { unit_ms: interval.about_ms(), is_count };
                return Ok(Some(Metric { field, missing: self.number("missing")?, kind }));
            }
            _ => return Ok(None),
        };
        let missing = match (&kind, self.object.get("missing")) {
            // Any value stands for one more.
            (MetricKind::Count | MetricKind::Cardinality, Some(json)) if !json.is_null() => {
                Some(scalar_text(json).and_then(|t| number(&t)).unwrap_or(0.0))
            }
            _ => self.number("missing")?,
        };
        Ok(Some(Metric { field: Some(self.field()?), missing, kind }))
    }
}
