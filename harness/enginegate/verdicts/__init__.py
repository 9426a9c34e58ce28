"""From a record to a verdict: typed inputs, the one judge, comparison, audits and power."""
