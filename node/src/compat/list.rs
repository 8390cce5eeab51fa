//! Lists in the form of the reference: pages, orders, time windows, cursors.

use std::cmp::Ordering;
use std::collections::HashMap;

use limes_routing::pick::mix;

/// Rows that [`Top`] collects beyond those that it keeps before it drops the surplus.
const SURPLUS: usize = 1_024;

/// A page of a sorted list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    /// Rows before it.
    skip: usize,
    /// Its rows.
    take: usize,
}

impl Page {
    /// Page `page`, from 1, of `size` rows; the first page of 10 rows if either is not positive.
    pub(super) fn of(page: i64, size: i64) -> Self {
        let positive = |number: i64| usize::try_from(number).ok().filter(|number| *number > 0);
        match (positive(page), positive(size)) {
            (Some(page), Some(take)) => Page { skip: (page - 1).saturating_mul(take), take },
            _ => Page { skip: 0, take: 10 },
        }
    }

    fn end(self) -> usize {
        self.skip.saturating_add(self.take)
    }

    fn slice<T>(self, sorted: Vec<T>) -> Vec<T> {
        sorted.into_iter().skip(self.skip).take(self.take).collect()
    }
}

/// A half-open window of Unix seconds; everything unless both bounds are given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window(Option<(i64, i64)>);

impl Window {
    /// The window from `start` to before `end`; a bound of 0 counts as not given.
    pub(super) fn of(start: Option<i64>, end: Option<i64>) -> Self {
        let given = |bound: Option<i64>| bound.filter(|bound| *bound != 0);
        Window(given(start).zip(given(end)))
    }

    /// Whether the window contains a second.
    pub(super) fn contains(self, second: i64) -> bool {
        self.0.is_none_or(|(start, end)| start <= second && second < end)
    }
}

/// The column that rows are sorted by, and the direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order<C> {
    pub(super) column: C,
    descending: bool,
}

impl<C: Copy> Order<C> {
    /// Parses `-column`, `+column` or `column`; newest first if the column is unknown. A name without a
    /// sign descends if `bare_descends`.
    pub(super) fn of(text: Option<&str>, known: &[(&str, C)], newest: C, bare_descends: bool) -> Self {
        let text = text.unwrap_or_default();
        let (name, descending) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
            (Some(name), _) => (name, true),
            (_, Some(name)) => (name, false),
            _ => (text, bare_descends),
        };
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, column)) => Order { column: *column, descending },
            None => Order { column: newest, descending: true },
        }
    }

    /// Applies the direction to an ascending comparison.
    pub(super) fn apply(&self, ascending: Ordering) -> Ordering {
        if self.descending { ascending.reverse() } else { ascending }
    }
}

/// Selects the first rows of an order out of any number, in memory for those rows only.
pub(super) struct Top<T, F> {
    keep: usize,
    compare: F,
    rows: Vec<T>,
    count: usize,
}

impl<T, F: Fn(&T, &T) -> Ordering> Top<T, F> {
    /// Keeps the first `keep` rows.
    pub(super) fn first(keep: usize, compare: F) -> Self {
        Top { keep, compare, rows: Vec::new(), count: 0 }
    }

    /// Keeps the rows up to the end of a page.
    pub(super) fn of(page: Page, compare: F) -> Self {
        Top::first(page.end(), compare)
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: T) {
        self.count += 1;
        self.rows.push(row);
        if self.rows.len() >= self.keep.saturating_mul(2).saturating_add(SURPLUS) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.keep > 0 && self.keep < self.rows.len() {
            self.rows.select_nth_unstable_by(self.keep - 1, &self.compare);
        }
        self.rows.truncate(self.keep);
    }

    /// The kept rows in order, and the number of all rows.
    pub(super) fn sorted(mut self) -> (Vec<T>, usize) {
        self.shrink();
        self.rows.sort_unstable_by(&self.compare);
        (self.rows, self.count)
    }

    /// The rows of a page, and the number of all rows.
    pub(super) fn page(self, page: Page) -> (Vec<T>, i32) {
        let (rows, count) = self.sorted();
        (page.slice(rows), total(count))
    }
}

/// Distinct names, each sorted by the first of its rows.
pub(super) struct Distinct<'a, T, F> {
    compare: F,
    best: HashMap<&'a str, T>,
}

impl<'a, T: Copy, F: Fn(&T, &T) -> Ordering> Distinct<'a, T, F> {
    /// Sorts names by `compare` of their first rows.
    pub(super) fn new(compare: F) -> Self {
        Distinct { compare, best: HashMap::new() }
    }

    /// Adds a row with this name.
    pub(super) fn push(&mut self, name: &'a str, row: T) {
        let best = self.best.entry(name).or_insert(row);
        if (self.compare)(&row, best).is_lt() {
            *best = row;
        }
    }

    /// The names of a page, and the number of all names.
    pub(super) fn page(self, page: Page) -> (Vec<String>, i32) {
        let mut names: Vec<_> = self.best.into_iter().collect();
        names.sort_unstable_by(|(name, row), (other_name, other)| {
            (self.compare)(row, other).then_with(|| name.cmp(other_name))
        });
        let count = total(names.len());
        (page.slice(names).into_iter().map(|(name, _)| name.to_owned()).collect(), count)
    }
}

fn total(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// About `count` rows from a cursor on, and the cursor of the next rows, 0 at the end. Rows are ordered by the
/// hash of their keys, so that a scan returns each row that exists throughout exactly once, even if other
/// rows come and go.
pub(super) fn scan<T, I: Iterator<Item = (u64, T)>>(
    rows: impl Fn() -> I,
    cursor: u32,
    count: u32,
) -> (u32, Vec<T>) {
    let ahead = || rows().map(|(key, row)| ((place(key), key), row)).filter(|((at, _), _)| *at >= cursor);
    let count = if count == 0 { 10 } else { count };
    let mut top = Top::first(usize::try_from(count).unwrap_or(usize::MAX), u64_pairs);
    ahead().for_each(|(at, _)| top.push(at));
    let (first, total) = top.sorted();
    let Some((last, _)) = first.last() else { return (0, Vec::new()) };
    // Rows with the same place as the last one are part of the page: the next cursor is beyond it.
    let mut page: Vec<_> = ahead().filter(|((at, _), _)| at <= last).collect();
    page.sort_by_key(|(at, _)| *at);
    let next = if page.len() < total { last + 1 } else { 0 };
    (next, page.into_iter().map(|(_, row)| row).collect())
}

fn u64_pairs(one: &(u32, u64), other: &(u32, u64)) -> Ordering {
    one.cmp(other)
}

/// The place of a key in the order of a scan, below 2^31.
fn place(key: u64) -> u32 {
    (mix(key) >> 33) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_page_is_the_first_of_ten_rows() {
        for (page, size) in [(0, 0), (-1, 5), (3, 0), (2, -7)] {
            assert_eq!(Page::of(page, size), Page { skip: 0, take: 10 });
        }
        assert_eq!(Page::of(3, 20), Page { skip: 40, take: 20 });
        assert!(Page::of(i64::MAX, i64::MAX).slice(vec![1]).is_empty());
    }

    #[test]
    fn page_has_the_rows_of_the_sorted_list() {
        let rows: Vec<u64> = (0..10_000).map(mix).collect();
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        for (number, size) in [(1, 10), (3, 7), (100, 100), (101, 100), (1, 20_000)] {
            let page = Page::of(number, size);
            let mut top = Top::of(page, u64::cmp);
            rows.iter().for_each(|row| top.push(*row));
            assert_eq!(top.page(page), (page.slice(sorted.clone()), 10_000), "page {number} of {size}");
        }
    }

    #[test]
    fn sign_sets_the_direction_of_an_order() {
        let of = |text, bare| Order::of(text, &[("addr", 'a'), ("create_time", 't')], 't', bare);
        assert_eq!(of(None, false), Order { column: 't', descending: true });
        assert_eq!(of(Some(" addr"), false), Order { column: 't', descending: true });
        assert_eq!(of(Some("+addr"), true), Order { column: 'a', descending: false });
        assert_eq!(of(Some("addr"), true), Order { column: 'a', descending: true });
        assert_eq!(of(Some("-create_time"), false), Order { column: 't', descending: true });
    }

    #[test]
    fn window_needs_both_bounds() {
        assert!(Window::of(Some(9), None).contains(1) && Window::of(Some(9), Some(0)).contains(1));
        let window = Window::of(Some(5), Some(7));
        assert_eq!([4, 5, 6, 7].map(|second| window.contains(second)), [false, true, true, false]);
    }

    #[test]
    fn scan_returns_every_row_that_stays_exactly_once() {
        let mut rows: Vec<u64> = (1..=500).collect();
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            let (next, page) = scan(|| rows.iter().map(|row| (*row, *row)), cursor, 7);
            seen.extend(page);
            if next == 0 {
                break;
            }
            cursor = next;
            // Others leave and arrive between the pages.
            rows.retain(|row| *row <= 100 || !row.is_multiple_of(3));
            rows.push(1_000 + u64::from(next));
        }
        for stays in 1..=100 {
            assert_eq!(seen.iter().filter(|row| **row == stays).count(), 1, "{stays}");
        }
    }

    #[test]
    fn distinct_names_are_sorted_by_their_first_row() {
        let mut names = Distinct::new(i32::cmp);
        for (name, row) in [("b", 3), ("a", 2), ("b", 1), ("c", 1)] {
            names.push(name, row);
        }
        let all = Page::of(1, 9);
        assert_eq!(names.page(all), (vec!["b".into(), "c".into(), "a".into()], 3));
    }
}
