//! Rows to findings: rules over execs, scores over series.
