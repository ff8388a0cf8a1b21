//! nwfilter
