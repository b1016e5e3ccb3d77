//! Options for how relays treat their clients.

use std::path::PathBuf;

use clap::Args;
use relay_sim::{
    Cap, Certificate, Information, Limits, Negentropy, RateLimit, Refusal, Sim, SimBuilder, Who,
};

use super::parts::{Shared, share_of};
use crate::cli::Failure;

/// How relays treat their clients. SHARE is the share of the relays concerned, as in --fault. For
/// each relay, a later option replaces an earlier one of the same kind.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Relays' behaviour")]
pub struct BehaviourArgs {
    /// The maximum number of stored events in an answer: [KIND=]EVENTS[:SHARE], may be repeated.
    /// KIND is clamp (the default), refuse (greater limits or none), too-many (filters that match
    /// more events), oldest-first or unordered (clamp, but send the wrong events) [default: no
    /// bound].
    #[arg(long, value_name = "CAP")]
    cap: Vec<Shared<Cap>>,
    /// With --cap: the limit for filters without a limit.
    #[arg(long, value_name = "EVENTS", requires = "cap")]
    default_limit: Option<usize>,
    /// Maximum subscriptions on a connection.
    #[arg(long, value_name = "NUMBER")]
    max_subscriptions: Option<usize>,
    /// Maximum filters in a REQ.
    #[arg(long, value_name = "NUMBER")]
    max_filters: Option<usize>,
    /// Refuse filters with a limit of 0.
    #[arg(long)]
    refuse_limit_zero: bool,
    /// Rate limit of a connection: REQUESTS/SECONDS[:SHARE]; further requests are refused with
    /// CLOSED rate-limited. May be repeated.
    #[arg(long, value_name = "RATE")]
    rate_limit: Vec<Shared<RateLimit>>,
    /// With --rate-limit: count the requests of all connections of a relay together.
    #[arg(long, requires = "rate_limit")]
    rate_limit_relay: bool,
    /// With --rate-limit: refuse with NOTICE.
    #[arg(long, requires = "rate_limit")]
    rate_limit_notice: bool,
    /// Refuse REQs with CLOSED and this reason, such as "error: come back later".
    #[arg(long, value_name = "REASON")]
    refuse: Option<String>,
    /// With --refuse: how many REQs each relay refuses [default: all].
    #[arg(long, value_name = "REQS", requires = "refuse")]
    refuse_times: Option<usize>,
    /// False or missing NIP-11 documents: no-limits, max-limit=EVENTS, not-found, garbage, endless,
    /// hanging; KIND[:SHARE], may be repeated.
    #[arg(long, value_name = "KIND")]
    information: Vec<Shared<Information>>,
    /// How relays support NIP-77: serve[=RECORDS_MAX], refuse, unknown, mute; KIND[:SHARE], may be
    /// repeated [default: not at all].
    #[arg(long, value_name = "KIND")]
    negentropy: Vec<Shared<Negentropy>>,
    /// This share of the relays keeps only the newest published event of each address (replaceable
    /// and addressable kinds) [default: all are kept].
    #[arg(long, value_name = "SHARE", value_parser = share_of)]
    replace: Option<f64>,
    /// This share of the relays accepts TCP connections and never reads from them.
    #[arg(long, value_name = "SHARE", value_parser = share_of)]
    deaf: Option<f64>,
    /// Serve wss:// with certificates signed by an authority that is created at the start.
    #[arg(long)]
    tls: bool,
    /// With --tls: write the authority's certificate to this file, in PEM.
    #[arg(long, value_name = "PATH", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// With --tls: certificates that no client should accept: expired, wrong-host, self-signed;
    /// KIND[:SHARE], may be repeated.
    #[arg(long, value_name = "KIND", requires = "tls")]
    certificate: Vec<Shared<Certificate>>,
    /// Listen on ::1 instead of 127.0.0.1.
    #[arg(long)]
    ipv6: bool,
}

impl BehaviourArgs {
    /// Adds these options to a simulation.
    pub fn add_to(&self, mut builder: SimBuilder) -> SimBuilder {
        for cap in &self.cap {
            let cap_with_default = self.default_limit.map(|events| cap.what.default_limit(events));
            builder = builder.caps(cap.who(), cap_with_default.unwrap_or(cap.what));
        }
        for limit in &self.rate_limit {
            builder = builder.rate_limits(limit.who(), self.rated(limit.what.clone()));
        }
        if let Some(reason) = &self.refuse {
            builder = builder.refusals(Who::All, self.refusal(reason));
        }
        for information in &self.information {
            builder = builder.information(information.who(), information.what.clone());
        }
        for negentropy in &self.negentropy {
            builder = builder.negentropy(negentropy.who(), negentropy.what.clone());
        }
        for certificate in &self.certificate {
            builder = builder.certificates(certificate.who(), certificate.what);
        }
        if let Some(share) = self.replace {
            builder = builder.replacing(Who::Share(share));
        }
        if let Some(share) = self.deaf {
            builder = builder.deaf(Who::Share(share));
        }
        builder = if self.tls { builder.tls() } else { builder };
        builder = if self.ipv6 { builder.ipv6() } else { builder };
        builder.limits(Who::All, self.limits())
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::new();
        if let Some(number) = self.max_subscriptions {
            limits = limits.subscriptions(number);
        }
        if let Some(number) = self.max_filters {
            limits = limits.filters(number);
        }
        if self.refuse_limit_zero { limits.refuse_limit_zero() } else { limits }
    }

    fn rated(&self, limit: RateLimit) -> RateLimit {
        let limit = if self.rate_limit_relay { limit.of_relay() } else { limit };
        if self.rate_limit_notice { limit.by_notice() } else { limit }
    }

    fn refusal(&self, reason: &str) -> Refusal {
        match self.refuse_times {
            Some(times) => Refusal::times(times, reason),
            None => Refusal::always(reason),
        }
    }

    /// Writes the authority's certificate to the given file.
    pub fn write_ca(&self, sim: &Sim) -> Result<(), Failure> {
        let Some((path, pem)) = self.ca_file.as_ref().zip(sim.ca_pem()) else { return Ok(()) };
        std::fs::write(path, pem).map_err(|error| Failure::Write(path.display().to_string(), error))
    }
}
