//! Tests of every line that is compiled: one body, as for what they test.
