//! What md-regress tells.
