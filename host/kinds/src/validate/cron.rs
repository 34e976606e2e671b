//! Schedules in the five fields of cron, and time zones, as far as telling right from wrong.
//! Invariants: the words are those of the original's parser. When a schedule is due is the controller's to say.

/// The ranges of the fields: minute, hour, day, month, weekday.
const RANGES: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (
        1,
        12,
        &[
            "", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    ),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];
const DESCRIPTORS: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// What is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut text = schedule;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        let (zone, rest) = text.split_once(' ').unwrap_or((text, ""));
        let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        check_zone(zone).map_err(|why| format!("provided bad location {zone}: {why}"))?;
        text = rest.trim();
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != RANGES.len() {
        let list = fields.join(" ");
        return Err(format!(
            "expected exactly {} fields, found {}: [{list}]",
            RANGES.len(),
            fields.len()
        ));
    }
    for (field, range) in fields.iter().zip(&RANGES) {
        let parts = field.split(',').filter(|part| !part.is_empty());
        parts.into_iter().try_for_each(|part| self::part(part, range))?;
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(duration) if is_duration(duration) => Ok(()),
        Some(duration) => Err(format!(
            "failed to parse duration {text}: time: invalid duration {duration:?}"
        )),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Numbers with units, such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|one: char| one.is_ascii_digit() || one == '.');
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let unit = units
            .iter()
            .filter(|unit| number.starts_with(**unit))
            .max_by_key(|unit| unit.len());
        match unit {
            Some(unit) if number.len() < rest.len() => rest = &number[unit.len()..],
            _ => return false,
        }
        any = true;
    }
    any || text == "0"
}

fn part(part: &str, (low, high, names): &(u32, u32, &[&str])) -> Result<(), String> {
    let mut steps = part.split('/');
    let range = steps.next().unwrap_or_default();
    let step = steps.next();
    let mut ends = range.split('-');
    let (first, second) = (ends.next().unwrap_or_default(), ends.next());
    let (start, end) = if matches!(first, "*" | "?") {
        (*low, *high)
    } else {
        let start = number(first, names)?;
        let end = match (second, ends.next()) {
            (None, _) => start,
            (Some(second), None) => number(second, names)?,
            _ => return Err(format!("too many hyphens: {part}")),
        };
        (start, end)
    };
    let mut last = end;
    if let Some(step) = step {
        if steps.next().is_some() {
            return Err(format!("too many slashes: {part}"));
        }
        let step = number(step, &[])?;
        if second.is_none() {
            last = *high;
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
    }
    if start < *low {
        return Err(format!(
            "beginning of range ({start}) below minimum ({low}): {part}"
        ));
    }
    if last > *high {
        return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
    }
    if start > last {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({last}): {part}"
        ));
    }
    Ok(())
}

fn number(text: &str, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_lowercase();
    if let Some(index) = names.iter().position(|name| !name.is_empty() && *name == lower) {
        return Ok(u32::try_from(index).unwrap_or_default());
    }
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
        )),
    }
}

/// What is wrong with the name of a time zone: one that no table has.
pub(super) fn check_zone(zone: &str) -> Result<(), String> {
    if zone.is_empty() || zone == "UTC" || jiff::tz::db().get(zone).is_ok() {
        return Ok(());
    }
    Err(format!("unknown time zone {zone}"))
}

/// Whether a time zone is written as they all are.
pub(super) fn is_zone_name(zone: &str) -> bool {
    zone.split('/').all(|part| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
        (1..=14).contains(&part.len())
            && part.bytes().all(known)
            && !part.starts_with('-')
            && !matches!(part, "." | "..")
    })
}
