//! Which optimizer a parameter has: groups by the parameters' names, as PyTorch's parameter groups.
//!
//! ```toml
//! [[optimizer.groups]]
//! match = "wide.*"        # names of parameters; the first group that matches has them
//! name = "ftrl"           # another optimizer; without a name, the job's with what else is given here
//! lr = 0.1
//! ```

use super::Optimizer;
use super::pattern::matches;
use crate::layer::ParameterKind;
use crate::model::Parameter;
use crate::registry::ParamDoc;
use ringspin_job::{Component, Origin, Problems};

/// Where groups are listed.
pub(crate) const LIST: &str = "groups";

/// Parameters that every group has beside its optimizer's.
pub const GROUP_PARAMS: &[ParamDoc] = &[
    ParamDoc::new("match", "required", "names of parameters: a pattern with * and ?, or several"),
    ParamDoc::new("lr_factor", "1", "what the learning rate is multiplied by"),
    ParamDoc::new("weight_decay_factor", "1", "what the optimizer's weight decay is multiplied by"),
    ParamDoc::new(
        "l1",
        "0",
        "multiple of the weights' signs added to their gradients: the penalty l1 · Σ|w|",
    ),
    ParamDoc::new("l2", "0", "multiple of the weights added to their gradients: the penalty l2 / 2 · Σw²"),
    ParamDoc::new("freeze", "false", "these parameters stay as they are"),
];

/// What a group does to its parameters beside its optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Treatment {
    /// Factor on the learning rate.
    pub(crate) rate: f64,
    /// Factor on the optimizer's weight decay.
    pub(crate) decay: f64,
    /// Multiple of the weights' signs added to the gradient.
    pub(crate) l1: f32,
    /// Multiple of the weights added to the gradient.
    pub(crate) l2: f32,
    /// Nothing changes.
    pub(crate) frozen: bool,
}

/// Parameters that are updated in the same way.
pub(crate) struct Group {
    path: String,
    origin: Origin,
    patterns: Vec<String>,
    pub(crate) optimizer: Box<dyn Optimizer>,
    pub(crate) treatment: Treatment,
}

/// The optimizers of a job, and which parameters each has.
pub struct Optimizers {
    /// In the order they are asked; the last is the job's own and takes everything.
    groups: Vec<Group>,
}

/// Builds an optimizer from its component, or reports why not.
pub(crate) type Build<'a> = dyn Fn(&Component, &mut Problems) -> Option<Box<dyn Optimizer>> + 'a;

impl Optimizers {
    /// Reads `[optimizer]` with its groups; mistakes go to `problems`.
    pub(crate) fn read(
        component: &Component,
        build: &Build<'_>,
        problems: &mut Problems,
    ) -> Option<Optimizers> {
        let (base, groups) = component.split_list(LIST, "name", problems);
        let known = problems.0.len();
        let own = build(&base, problems);
        // What is wrong with the job's optimizer is not said again for every group.
        let base_is_right = problems.0.len() == known;
        let mut built = Vec::new();
        for group in groups {
            let (treatment, patterns, mut optimizer) = read_group(group, problems);
            let inherits = optimizer.name.is_empty();
            if inherits {
                optimizer.name.clone_from(&base.name);
                for (name, setting) in &base.params.0 {
                    optimizer.params.0.entry(name.clone()).or_insert_with(|| setting.clone());
                }
            }
            if inherits && !base_is_right {
                continue;
            }
            let Component { path, origin, .. } = optimizer.clone();
            if let Some(optimizer) = build(&optimizer, problems) {
                built.push(Group { path, origin, patterns, optimizer, treatment });
            }
        }
        let treatment = Treatment { rate: 1.0, decay: 1.0, l1: 0.0, l2: 0.0, frozen: false };
        let Component { path, origin, .. } = base;
        built.push(Group { path, origin, patterns: vec!["*".into()], optimizer: own?, treatment });
        Some(Optimizers { groups: built })
    }

    /// The learning rate of the job's own optimizer.
    pub fn base_rate(&self) -> f64 {
        self.groups.last().map_or(0.0, |own| own.optimizer.base_rate())
    }

    /// Whether a step depends on whole parameter arrays ([`super::Optimizer::measures`]).
    pub fn measure(&self) -> bool {
        self.groups.iter().any(|group| group.optimizer.measures())
    }

    pub(crate) fn into_groups(self) -> Vec<Group> {
        self.groups
    }

    /// Numbers that the optimizers keep between updates.
    ///
    /// # Errors
    /// As [`Optimizers::assign`].
    pub fn kept(&self, parameters: &[Parameter]) -> Result<usize, Problems> {
        let assigned = self.assign(parameters)?;
        let kept = parameters.iter().zip(assigned).map(|(parameter, group)| {
            let Group { optimizer, treatment, .. } = &self.groups[group];
            if treatment.frozen { 0 } else { optimizer.states().len() * parameter.range.len() }
        });
        Ok(kept.sum())
    }

    /// The group of every parameter.
    ///
    /// # Errors
    /// Groups that no parameter belongs to, optimizers that can not update a table row by row, and models of which
    /// nothing would be learned.
    pub fn assign(&self, parameters: &[Parameter]) -> Result<Vec<usize>, Problems> {
        let find = |parameter: &Parameter| {
            let fits = |group: &Group| group.patterns.iter().any(|pattern| matches(pattern, &parameter.name));
            self.groups.iter().position(fits).expect("the last group takes everything")
        };
        let assigned: Vec<usize> = parameters.iter().map(find).collect();
        let mut problems = Problems::new();
        let (own, listed) = self.groups.split_last().expect("there is the job's own");
        let idle = listed.iter().enumerate().filter(|(number, _)| !assigned.contains(number));
        for (_, group) in idle {
            let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            let taken = group.patterns.iter().any(|pattern| names.iter().any(|name| matches(pattern, name)));
            let message = if taken {
                "every parameter that it matches belongs to an earlier group".to_string()
            } else {
                format!("matches no parameter; the model has {}", list(&names))
            };
            problems.add(&group.origin, format!("{}.match", group.path), message);
        }
        for (parameter, group) in parameters.iter().zip(&assigned) {
            let Group { path, origin, optimizer, treatment, .. } = &self.groups[*group];
            let lazy = parameter.kind == ParameterKind::Rows { lazy: true };
            if lazy && optimizer.measures() && !treatment.frozen {
                let message = format!(
                    "its steps depend on whole arrays, but {} of {} is updated row by row (sparse = \"lazy\"); give \
                     the layer sparse = \"exact\", or the parameter another optimizer in a group of its own",
                    parameter.name, parameter.layer
                );
                problems.add(origin, format!("{path}.name"), message);
            }
        }
        let frozen = |group: &usize| self.groups[*group].treatment.frozen;
        if !assigned.is_empty() && assigned.iter().all(frozen) {
            problems.add(&own.origin, format!("{}.{LIST}", own.path), "freeze every parameter of the model");
        }
        problems.or(assigned)
    }
}

/// Names for a message, the first of many.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 12;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// A group's own parameters; the component that is left is its optimizer's.
fn read_group(mut group: Component, problems: &mut Problems) -> (Treatment, Vec<String>, Component) {
    let mut own = group.clone();
    let is_own = |name: &str| GROUP_PARAMS.iter().any(|param| param.name == name);
    own.params.0.retain(|name, _| is_own(name));
    group.params.0.retain(|name, _| !is_own(name));
    if group.origin == Origin::Default
        && let Some(setting) = own.params.0.values().next()
    {
        group.origin = setting.origin.clone();
    }
    own.origin = group.origin.clone();
    let mut reader = own.reader(problems);
    let patterns = reader.texts("match", None);
    let treatment = Treatment {
        rate: reader.number("lr_factor", 0.0..=f64::MAX, Some(1.0)),
        decay: reader.number("weight_decay_factor", 0.0..=f64::MAX, Some(1.0)),
        l1: reader.number("l1", 0.0..=f64::from(f32::MAX), Some(0.0)) as f32,
        l2: reader.number("l2", 0.0..=f64::from(f32::MAX), Some(0.0)) as f32,
        frozen: reader.flag("freeze", false),
    };
    reader.finish();
    (treatment, patterns, group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::parameters;
    use crate::registry::Registry;
    use ringspin_job::Value;

    fn sgd(groups: &[(&str, Value)]) -> Result<Optimizers, String> {
        let base = Component::new("optimizer", "sgd").with("lr", 0.5).with("momentum", 0.9);
        let component = groups.iter().fold(base, |base, (key, value)| base.with(key, value.clone()));
        Registry::standard().build_optimizers(&component).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_first_group_that_matches_has_a_parameter() {
        let texts = |texts: &[&str]| Value::List(texts.iter().map(|text| (*text).into()).collect());
        let optimizers = sgd(&[
            ("groups[0].match", "*.bias".into()),
            ("groups[0].lr_factor", 2.into()),
            ("groups[1].match", texts(&["wide.*", "2.*"])),
            ("groups[1].name", "adam".into()),
            ("groups[2].match", "0.w*".into()),
            ("groups[2].lr", 0.25.into()),
        ])
        .unwrap();
        let model =
            parameters(&[("wide.weight", 0..1), ("wide.bias", 1..2), ("0.weight", 2..3), ("1.weight", 3..4)]);
        assert_eq!(optimizers.assign(&model).unwrap(), [1, 0, 2, 3]);
        let rates: Vec<f64> = optimizers.groups.iter().map(|group| group.optimizer.base_rate()).collect();
        assert_eq!(
            rates,
            [0.5, 1e-3, 0.25, 0.5],
            "without a name, the job's optimizer with other parameters"
        );
        let states: Vec<usize> =
            optimizers.groups.iter().map(|group| group.optimizer.states().len()).collect();
        assert_eq!((states, optimizers.base_rate()), (vec![1, 2, 1, 1], 0.5));
    }

    #[test]
    fn groups_without_parameters_are_mistakes() {
        let optimizers = sgd(&[
            ("groups[0].match", "*.weight".into()),
            ("groups[1].match", "0.weight".into()),
            ("groups[2].match", "deep.*".into()),
        ])
        .unwrap();
        let text = optimizers.assign(&parameters(&[("0.weight", 0..1), ("0.bias", 1..2)])).unwrap_err();
        let text = text.to_string();
        assert!(
            text.contains("optimizer.groups[1].match: every parameter that it matches belongs"),
            "{text}"
        );
        let missing = "optimizer.groups[2].match: matches no parameter; the model has 0.weight, 0.bias";
        assert!(text.contains(missing), "{text}");
        let frozen = sgd(&[("groups[0].match", "*".into()), ("groups[0].freeze", true.into())]).unwrap();
        let text = frozen.assign(&parameters(&[("0.weight", 0..1)])).unwrap_err().to_string();
        assert!(text.contains("optimizer.groups: freeze every parameter"), "{text}");
    }

    #[test]
    fn mistakes_in_groups_are_found_with_all_others() {
        let text = sgd(&[
            ("groups[0].lr_factor", Value::Int(-1)),
            ("groups[0].momentun", 0.5.into()),
            ("groups[1].match", Value::Int(3)),
            ("groups[1].name", "adm".into()),
        ])
        .err()
        .unwrap();
        for expected in [
            "optimizer.groups[0].match: is required: text in quotes or a list of texts",
            "optimizer.groups[0].lr_factor: expected a number of at least 0, found -1",
            "optimizer.groups[0].momentun: \"sgd\" has no such parameter; did you mean \"momentum\"?",
            "optimizer.groups[1].match: expected text in quotes or a list of texts, found 3",
            "optimizer.groups[1]: unknown optimizer \"adm\"; did you mean \"adam\"?",
        ] {
            assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
        }
        let base = Component::new("optimizer", "sgd").with("groups[0].match", "*");
        let text = Registry::standard().build_optimizers(&base).err().unwrap().to_string();
        assert_eq!(text.lines().count(), 1, "a missing rate is told once: {text}");
    }
}
