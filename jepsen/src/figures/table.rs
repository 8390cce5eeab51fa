//! The measured values and their goals.

use std::fmt;

use serde_json::{Map, Value, json};

/// All values of one figure.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    values: Vec<f64>,
}

impl Figure {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self) -> f64 {
        let values = self.sorted();
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => values[n / 2],
            n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        }
    }

    fn worst(&self, goal: &Goal) -> f64 {
        let values = self.sorted();
        let worst = if matches!(goal, Goal::AtLeast(_)) { values.first() } else { values.last() };
        worst.copied().unwrap_or(f64::NAN)
    }
}

/// The value that the median should reach.
enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

/// All figures.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// From a node's kill to the first call that reaches one of its edges at another node, in seconds.
    pub edge_back_elsewhere_s: Figure,
    /// From a node's kill until no other node lists its edges, in seconds.
    pub presence_gone_s: Figure,
    /// Calls between the other nodes that failed when the leader was killed.
    pub leader_killed_calls_failed: Figure,
    /// From the leader's kill to the next committed registration, in seconds.
    pub leader_killed_next_commit_s: Figure,
    /// From the second dial of an edge whose first connection is half-open to the first call that reaches it at the
    /// same node, in milliseconds.
    pub takeover_same_node_ms: Figure,
    /// The same at another node.
    pub takeover_other_node_ms: Figure,
    /// Edges welcomed per second by all nodes together; each leaves at once.
    pub connects_per_s: Figure,
    /// CPU time of the generator per welcome, in microseconds.
    pub generator_us: Figure,
    /// CPU time of all nodes per welcome, in microseconds.
    pub gateway_us: Figure,
}

impl Table {
    fn rows(&self) -> [(&'static str, &Figure, Goal); 7] {
        [
            ("edge_back_elsewhere_s", &self.edge_back_elsewhere_s, Goal::AtMost(2.0)),
            ("presence_gone_s", &self.presence_gone_s, Goal::AtMost(3.0)),
            ("leader_killed_calls_failed", &self.leader_killed_calls_failed, Goal::AtMost(0.0)),
            ("leader_killed_next_commit_s", &self.leader_killed_next_commit_s, Goal::None),
            ("takeover_same_node_ms", &self.takeover_same_node_ms, Goal::AtMost(100.0)),
            ("takeover_other_node_ms", &self.takeover_other_node_ms, Goal::AtMost(100.0)),
            ("connects_per_s", &self.connects_per_s, Goal::AtLeast(5_000.0)),
        ]
    }

    /// One JSON object, for programs.
    pub fn json(&self) -> Value {
        let rows = self.rows().into_iter().map(|(name, figure, goal)| {
            let row = json!({
                "median": figure.median(),
                "worst": figure.worst(&goal),
                "runs": figure.values.len(),
            });
            (name.to_owned(), row)
        });
        Value::Object(rows.collect::<Map<_, _>>())
    }
}

/// For people: a row for each figure, with its goal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>10} {:>10} {:>5}  goal", "", "median", "worst", "runs")?;
        for (name, figure, goal) in self.rows() {
            let (median, worst) = (figure.median(), figure.worst(&goal));
            let (text, met) = match goal {
                Goal::AtMost(most) => (format!("<= {most}"), median <= most),
                Goal::AtLeast(least) => (format!(">= {least}"), median >= least),
                Goal::None => ("-".to_owned(), true),
            };
            let runs = figure.values.len();
            let missed = if met { "" } else { "  MISSED" };
            writeln!(f, "{name:<28} {median:>10.3} {worst:>10.3} {runs:>5}  {text}{missed}")?;
        }
        let (generator, gateway) = (self.generator_us.median(), self.gateway_us.median());
        write!(f, "CPU time of a connect and its end: generator {generator:.0} us, all nodes {gateway:.0} us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_the_lowest_where_more_is_better() {
        let mut table = Table::default();
        [5_000.0, 7_000.0, 6_000.0].into_iter().for_each(|value| table.connects_per_s.add(value));
        [1.0, 3.0].into_iter().for_each(|value| table.presence_gone_s.add(value));
        let json = table.json();
        assert_eq!(json["connects_per_s"], json!({"median": 6_000.0, "worst": 5_000.0, "runs": 3}));
        assert_eq!(json["presence_gone_s"], json!({"median": 2.0, "worst": 3.0, "runs": 2}));
        assert_eq!(json.as_object().map(Map::len), Some(7));
    }
}
