//! The command `lab fault`: shows a fault, or leaves it standing.

use serde_json::Value;

use super::fault_lab::FaultLab;
use super::{Fault, faults, find, quirks, show, stories};
use crate::command::Words;
use crate::error::{LabError, Result};
use crate::lab::Program;

const HELP: &str = "\
pointsman lab fault: faults of virtual services, built for real in network namespaces

  fault --list [--json]          the faults, the stories of several faults, and healthy labs that
                                 only look suspicious; --json tells culprits and cures too
  fault NAME [--tag T]           build it, show that requests fail, cure it, show that they are
                                 answered, undo the cure, show that they fail again, take it down
  fault NAME --keep [--tag T] [--cured] [--json]
                                 leave it standing, broken or cured, and say how to go on;
                                 --json says who is where, for the doctor
  fault NAME --keep --shown [--tag T]
                                 show all of that, and leave it standing, broken
  fault NAME --json [--tag T]    who would be where; nothing is built
";

/// Runs the command with the words after `fault`.
pub(crate) fn fault(words: &mut Words, program: &Program) -> Result<()> {
    if words.flag("--help") || words.flag("-h") {
        print!("{HELP}");
        return Ok(());
    }
    let json = words.flag("--json");
    if words.flag("--list") {
        words.end()?;
        print!("{}", list(json)?);
        return Ok(());
    }
    let keep = words.flag("--keep");
    let cured = words.flag("--cured");
    let shown = words.flag("--shown");
    let tag = words.option("--tag")?;
    let name = words.next("the code of a fault")?;
    words.end()?;
    let fault = find(&name).ok_or_else(|| {
        LabError::Usage(format!(
            "no fault is called {name:?}; `lab fault --list` names them"
        ))
    })?;
    if (cured || shown) && !keep {
        return Err(LabError::Usage(
            "--cured and --shown go with --keep".to_owned(),
        ));
    }
    if shown && (cured || json) {
        return Err(LabError::Usage(
            "--shown goes without --cured and --json".to_owned(),
        ));
    }
    if keep && !shown {
        return stand(fault, tag, program, cured, json);
    }
    if json {
        let tag = tag.as_deref().unwrap_or("TAG");
        print!("{}", show::topology(&fault, tag).write());
        return Ok(());
    }
    demonstrate(fault, tag, program, keep)
}

fn list(json: bool) -> Result<String> {
    if json {
        let all = [faults(), stories(), quirks()].concat();
        return pretty(&all.iter().map(show::catalogue_entry).collect());
    }
    Ok([
        show::list("Faults", &faults()),
        show::list("Stories", &stories()),
        show::list("Healthy", &quirks()),
    ]
    .join("\n"))
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| LabError::Answer(format!("cannot write JSON: {error}")))
}

/// Builds a fault and leaves it.
fn stand(
    fault: Fault,
    tag: Option<String>,
    program: &Program,
    cured: bool,
    json: bool,
) -> Result<()> {
    // A tag that names a process would count as stale as soon as this one ends.
    let tag = tag.unwrap_or_else(|| format!("u{}", std::process::id()));
    let mut lab = FaultLab::build_working(fault, program, Some(tag), true)?;
    lab.break_all()?;
    // Nobody shall find it before it is what it is called.
    if cured {
        lab.cure_all()?;
    }
    if cured || lab.fault().is_healthy() {
        lab.expect_answer()?;
    } else {
        lab.expect_failure()?;
    }
    if json {
        print!("{}", show::topology(lab.fault(), lab.tag()).write());
    } else {
        print!("{}", show::standing(&lab));
    }
    lab.keep();
    Ok(())
}

/// Shows a fault from beginning to end; perhaps leaves it.
fn demonstrate(fault: Fault, tag: Option<String>, program: &Program, keep: bool) -> Result<()> {
    println!("{}: {}", fault.name, fault.title);
    if !fault.note.is_empty() {
        println!("({})", fault.note);
    }
    // As in `stand`: a tag that names a process would soon be stale.
    let tag = match (keep, tag) {
        (true, None) => Some(format!("u{}", std::process::id())),
        (_, tag) => tag,
    };
    let mut lab = FaultLab::build_working(fault, program, tag, keep)?;
    let asked = show::question(lab.fault());
    println!("\nas planned\n  {asked}");
    println!("  {}", show::ending(&lab.expect_answer()?));
    if lab.fault().is_healthy() {
        if keep {
            lab.keep();
        }
        return Ok(());
    }
    lab.break_all()?;
    let blockers = lab.fault().blockers.clone();
    let said = |title: &str, text: String| print!("\n{title}\n{text}");
    for blocker in &blockers {
        said(
            &format!(
                "broken: {} at {} {}: {}",
                blocker.code, blocker.guilty.node, blocker.guilty.port, blocker.guilty.rule
            ),
            show::steps(&lab, &blocker.breaks),
        );
    }
    println!("  {asked}\n  {}", show::ending(&lab.expect_failure()?));
    if let [blocker] = &blockers[..]
        && let Some(witness) = blocker.witness
    {
        print!("{}", show::witness(&lab, blocker));
        let heard = lab.hear(&witness)?;
        for line in heard.lines().filter(|line| line.contains(witness.line)) {
            println!("  {}", line.trim());
        }
        if !witness.is_borne_by(&heard) {
            return Err(LabError::Answer(format!(
                "{}: nothing bears witness in\n{heard}",
                blocker.code
            )));
        }
    }
    for (number, blocker) in blockers.iter().enumerate() {
        lab.cure(number)?;
        said(
            &format!("cured: {}", blocker.code),
            show::steps(&lab, &blocker.cure),
        );
        let outcome = if number + 1 == blockers.len() {
            lab.expect_answer()?
        } else {
            lab.expect_any_failure()?
        };
        println!("  {asked}\n  {}", show::ending(&outcome));
    }
    lab.undo_all()?;
    for blocker in &blockers {
        said(
            &format!("undone: {}", blocker.code),
            show::steps(&lab, &blocker.undo),
        );
    }
    println!("  {asked}\n  {}", show::ending(&lab.expect_failure()?));
    if keep {
        println!("\nThe lab stands; `lab down {}` takes it down.", lab.tag());
        lab.keep();
    }
    Ok(())
}
