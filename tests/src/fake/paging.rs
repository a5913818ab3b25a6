//! Pages, and the opaque tokens that lead from one to the next.

use std::ops::Bound;

use super::params::Refusal;

/// One page of a listing. A token names the last key shown, so that what is made or deleted between two pages
/// neither repeats nor hides anything else; and it is bound to its listing, filters included.
#[derive(Debug)]
pub(super) struct Page {
    listing: String,
    after: Option<String>,
    size: usize,
}

impl Page {
    /// The page that `token` asks for; the first one without a token. `None` where this listing never gave that token.
    pub fn at(listing: impl Into<String>, token: Option<&str>, size: usize) -> Option<Self> {
        let listing = listing.into();
        let after = match token {
            None | Some("") => None,
            Some(token) => Some(read_token(&listing, token)?),
        };
        Some(Self { listing, after, size: size.max(1) })
    }

    /// As [`Page::at`], with a refusal of this code where the token is not known.
    pub fn or_refuse(
        listing: impl Into<String>,
        token: Option<&str>,
        size: usize,
        code: &str,
        message: &str,
    ) -> Result<Self, Refusal> {
        Self::at(listing, token, size).ok_or_else(|| Refusal::new(400, code, message))
    }

    /// Where in a sorted map this page begins.
    pub fn start(&self) -> (Bound<&str>, Bound<&str>) {
        (self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
    }

    /// Takes a page of items, in order of their keys, and the token of the next page if there is one.
    pub fn take<'a, T>(&self, items: impl IntoIterator<Item = (&'a str, T)>) -> (Vec<T>, Option<String>) {
        let mut items = items
            .into_iter()
            .skip_while(|(key, _)| self.after.as_deref().is_some_and(|after| *key <= after))
            .peekable();
        let (mut page, mut last) = (Vec::new(), "");
        while page.len() < self.size {
            let Some((key, item)) = items.next() else { break };
            last = key;
            page.push(item);
        }
        let token = items.peek().map(|_| write_token(&self.listing, last));
        (page, token)
    }
}

fn write_token(listing: &str, last: &str) -> String {
    let mut token = format!("{:016x}", checksum(listing, last));
    token.extend(last.bytes().map(|byte| format!("{byte:02x}")));
    token
}

fn read_token(listing: &str, token: &str) -> Option<String> {
    let (sum, last) = token.split_at_checked(16)?;
    let bytes: Option<Vec<u8>> = last
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let last = String::from_utf8(bytes?).ok()?;
    (sum == format!("{:016x}", checksum(listing, &last))).then_some(last)
}

/// FNV-1a: no secret, only enough to tell our tokens from others.
fn checksum(listing: &str, last: &str) -> u64 {
    listing
        .bytes()
        .chain([0])
        .chain(last.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["a", "b", "c", "d", "é"];

    fn page(
        listing: &str,
        token: Option<&str>,
        keys: &[&'static str],
    ) -> (Vec<&'static str>, Option<String>) {
        Page::at(listing, token, 2).unwrap().take(keys.iter().map(|key| (*key, *key)))
    }

    #[test]
    fn pages_follow_each_other_and_end() {
        let (first, token) = page("x", None, &KEYS);
        let (second, next) = page("x", token.as_deref(), &KEYS);
        let (third, end) = page("x", next.as_deref(), &KEYS);
        assert_eq!((first, second, third, end), (vec!["a", "b"], vec!["c", "d"], vec!["é"], None));
    }

    #[test]
    fn a_full_last_page_has_no_token() {
        assert_eq!(page("x", None, &KEYS[..2]).1, None);
    }

    #[test]
    fn what_goes_between_two_pages_hides_nothing_else() {
        let (_, token) = page("x", None, &KEYS);
        assert_eq!(page("x", token.as_deref(), &["a", "c", "d"]).0, ["c", "d"]);
    }

    #[test]
    fn a_token_of_another_listing_or_of_nobody_is_refused() {
        let token = page("x", None, &KEYS).1.unwrap();
        assert!(Page::at("y", Some(&token), 2).is_none());
        for forged in ["0", "nonsense", "é€é€é€é€é€", &token[1..], &format!("{token}00"), &"0".repeat(16)]
        {
            assert!(Page::at("x", Some(forged), 2).is_none(), "{forged}");
        }
    }
}
