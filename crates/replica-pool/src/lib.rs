//! Which copy of the database to ask: primary/replica routing, failover and promotion.
