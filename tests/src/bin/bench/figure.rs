use serde_json::json;

/// One measured figure; lower is better for all of them.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<f64>,
    /// The original on a 2-core machine, where it was measured.
    pub(crate) original: Option<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            goal: None,
            original: None,
        }
    }

    pub(crate) fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    pub(crate) fn original(mut self, original: f64) -> Self {
        self.original = Some(original);
        self
    }
}

/// The value in the middle of several runs.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn table(figures: &[Figure]) -> String {
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let mut text = format!(
        "{:<52} {:>10} {:>10} {:>10}  {}\n",
        "", "measured", "goal", "original", "unit"
    );
    for one in figures {
        let mark = if one.goal.is_some_and(|goal| one.value > goal) {
            "  missed"
        } else {
            ""
        };
        text += &format!(
            "{:<52} {:>10.2} {:>10} {:>10}  {}{mark}\n",
            one.name,
            one.value,
            shown(one.goal),
            shown(one.original),
            one.unit
        );
    }
    text
}

pub(crate) fn json(figures: &[Figure]) -> String {
    let rows: Vec<_> = figures
        .iter()
        .map(|one| {
            json!({ "name": one.name, "value": one.value, "unit": one.unit, "goal": one.goal, "original": one.original })
        })
        .collect();
    format!("{:#}\n", json!(rows))
}
