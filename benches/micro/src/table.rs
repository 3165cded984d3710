//! The table of counts in the repository, and the comparison with it.

/// Tolerated growth of a count, in percent.
const TOLERANCE: u64 = 10;
/// Additional allocations that are always tolerated.
const FEW_ALLOCATIONS: u64 = 1;

/// The counts of a workload or call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name of the workload or call.
    pub name: String,
    /// Instructions; `None` for whole calls, whose threads wait for each other in varying ways.
    pub instructions: Option<u64>,
    /// Heap allocations and reallocations.
    pub allocations: u64,
}

/// The differences from the kept table, as sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Growth beyond the tolerance, and missing rows.
    pub problems: Vec<String>,
    /// Improvements beyond the tolerance.
    pub gains: Vec<String>,
}

/// Formats rows as a table.
pub fn to_markdown(rows: &[Row]) -> String {
    let mut text = "| work | instructions | allocations |\n| --- | ---: | ---: |\n".to_owned();
    for Row { name, instructions, allocations } in rows {
        let instructions = instructions.map_or("–".to_owned(), |count| count.to_string());
        text += &format!("| {name} | {instructions} | {allocations} |\n");
    }
    text
}

/// Parses the rows of a table; ignores other lines.
pub fn from_markdown(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (name, instructions) = (cells.next()?.to_owned(), cells.next()?.parse().ok());
        Some(Row { name, instructions, allocations: cells.next()?.parse().ok()? })
    };
    text.lines().filter_map(row).collect()
}

/// Compares measured with kept rows.
pub fn compare(kept: &[Row], measured: &[Row]) -> Differences {
    let mut differences = Differences::default();
    for new in measured {
        let Some(old) = kept.iter().find(|old| old.name == new.name) else {
            differences.problems.push(format!("{}: is not in the table", new.name));
            continue;
        };
        let instructions = old.instructions.zip(new.instructions);
        differences.count(&new.name, "instructions", instructions, 0);
        let allocations = Some((old.allocations, new.allocations));
        differences.count(&new.name, "allocations", allocations, FEW_ALLOCATIONS);
    }
    for old in kept {
        if !measured.iter().any(|new| new.name == old.name) {
            differences.problems.push(format!("{}: is in the table and not measured", old.name));
        }
    }
    differences
}

impl Differences {
    fn count(&mut self, name: &str, unit: &str, counts: Option<(u64, u64)>, few: u64) {
        let Some((old, new)) = counts else { return };
        let is_more =
            |less: u64, more: u64| more > less + few && more * 100 > less * (100 + TOLERANCE);
        let sentence = format!("{name}: {old} {unit} before, {new} now");
        if is_more(old, new) {
            self.problems.push(sentence);
        } else if old > new + few && new * 100 < old * (100 - TOLERANCE) {
            self.gains.push(sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instructions: Option<u64>, allocations: u64) -> Row {
        Row { name: "work".to_owned(), instructions, allocations }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let rows = [row(Some(1234), 0), row(None, 567)];
        let text = format!("# Counts\n\nWords.\n\n{}", to_markdown(&rows));
        assert_eq!(from_markdown(&text), rows);
    }

    #[test]
    fn a_tenth_more_or_one_allocation_more_is_no_growth() {
        let table = [
            (row(Some(1000), 20), row(Some(1100), 22), 0, 0),
            (row(Some(1000), 20), row(Some(1101), 20), 1, 0),
            (row(Some(1000), 20), row(Some(1000), 23), 1, 0),
            (row(Some(1000), 20), row(Some(1101), 23), 2, 0),
            (row(None, 0), row(None, 1), 0, 0),
            (row(None, 0), row(None, 2), 1, 0),
            (row(Some(1000), 20), row(Some(900), 18), 0, 0),
            (row(Some(1000), 20), row(Some(899), 17), 0, 2),
            (row(None, 2), row(None, 1), 0, 0),
        ];
        for (old, new, problems, gains) in table {
            let found = compare(&[old], std::slice::from_ref(&new));
            assert_eq!((found.problems.len(), found.gains.len()), (problems, gains), "{new:?}");
        }
    }

    #[test]
    fn a_table_with_other_rows_is_a_problem() {
        let rows = [row(Some(1), 1)];
        assert_eq!(compare(&[], &rows).problems, ["work: is not in the table"]);
        assert_eq!(compare(&rows, &[]).problems, ["work: is in the table and not measured"]);
    }
}
