// What the query editors complete besides names the server knows.

export const PROMQL_FUNCTIONS: readonly string[] = (
  "abs absent absent_over_time avg avg_over_time bottomk ceil changes clamp clamp_max clamp_min count count_over_time count_values " +
  "day_of_month day_of_week day_of_year days_in_month delta deriv double_exponential_smoothing exp floor group histogram_avg histogram_count " +
  "histogram_fraction histogram_quantile histogram_sum hour idelta increase info irate label_join label_replace last_over_time limitk " +
  "limit_ratio ln log10 log2 mad_over_time max max_over_time min min_over_time minute month predict_linear present_over_time quantile " +
  "quantile_over_time rate resets round scalar sgn sort sort_by_label sort_by_label_desc sort_desc sqrt stddev stddev_over_time stdvar " +
  "stdvar_over_time sum sum_over_time time timestamp topk vector year"
).split(" ");

export const LOGQL_WORDS: readonly string[] =
  "json logfmt pattern regexp unpack decolorize line_format label_format drop keep unwrap count_over_time rate bytes_rate bytes_over_time sum by without topk quantile_over_time".split(" ");
