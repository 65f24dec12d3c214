//! What may stand in the fields of a request. Source: docs/protocol.md, sections 1 and 2.

use std::ops::RangeInclusive;

use entrenous_protocol::{
    FieldError,
    rest::{LoginDevice, ProfilePatch, Register},
};

use crate::config::Limits;

const USERNAME_CHARS: RangeInclusive<usize> = 3..=32;
const DISPLAY_NAME_CHARS_MAX: usize = 64;
const DEVICE_NAME_CHARS: RangeInclusive<usize> = 1..=64;
const PLATFORM_CHARS_MAX: usize = 32;
/// Source: RFC 5321 4.5.3.1.3, less the angle brackets.
const EMAIL_BYTES_MAX: usize = 254;

/// What is wrong with the fields of a request.
pub(crate) type FieldErrors = Vec<FieldError>;

/// A name in the form in which names are compared and kept.
pub(crate) fn normalise_username(username: &str) -> String {
    // Only ASCII: of other letters some have a lower case that is ASCII, such as the Kelvin sign.
    username.to_ascii_lowercase()
}

/// Whether it may be a name.
pub(crate) fn is_username(username: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    USERNAME_CHARS.contains(&username.chars().count()) && username.chars().all(is_allowed)
}

/// Checks a registration.
pub(crate) fn check_registration(request: &Register, limits: &Limits) -> Result<(), FieldErrors> {
    let mut check = Check::default();
    check.username(&request.username);
    check.password("password", &request.password, limits);
    check.email(request.email.as_deref());
    check.display_name(request.display_name.as_deref());
    check.end()
}

/// Checks a new password.
pub(crate) fn check_new_password(password: &str, limits: &Limits) -> Result<(), FieldErrors> {
    let mut check = Check::default();
    check.password("new_password", password, limits);
    check.end()
}

/// Checks the device of a login.
pub(crate) fn check_device(device: &LoginDevice) -> Result<(), FieldErrors> {
    let mut check = Check::default();
    check.text("device.name", &device.name, DEVICE_NAME_CHARS);
    if let Some(platform) = &device.platform {
        check.text("device.platform", platform, 0..=PLATFORM_CHARS_MAX);
    }
    check.end()
}

/// Checks a change of the profile.
pub(crate) fn check_patch(patch: &ProfilePatch) -> Result<(), FieldErrors> {
    let mut check = Check::default();
    check.email(patch.email.as_ref().and_then(Option::as_deref));
    check.display_name(patch.display_name.as_ref().and_then(Option::as_deref));
    check.end()
}

/// One field that does not validate.
pub(crate) fn invalid(field: &str, message: impl Into<String>) -> FieldErrors {
    vec![FieldError { field: field.to_owned(), message: message.into() }]
}

#[derive(Default)]
struct Check(FieldErrors);

impl Check {
    fn end(self) -> Result<(), FieldErrors> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    fn refuse(&mut self, field: &str, message: impl Into<String>) {
        self.0.extend(invalid(field, message));
    }

    fn text(&mut self, field: &str, text: &str, chars: RangeInclusive<usize>) {
        if text.contains('\0') {
            self.refuse(field, "must not hold NUL characters");
        } else if !chars.contains(&text.chars().count()) {
            self.refuse(field, format!("must have {} to {} characters", chars.start(), chars.end()));
        }
    }

    fn username(&mut self, username: &str) {
        if !is_username(username) {
            self.refuse("username", "must be 3 to 32 of a-z, 0-9, _, . and -");
        }
    }

    fn password(&mut self, field: &str, password: &str, limits: &Limits) {
        self.text(field, password, limits.password_min..=limits.password_max);
    }

    fn display_name(&mut self, display_name: Option<&str>) {
        if let Some(display_name) = display_name {
            self.text("display_name", display_name, 0..=DISPLAY_NAME_CHARS_MAX);
        }
    }

    /// Only what every address has: whether one is real, only a mail to it can tell.
    fn email(&mut self, email: Option<&str>) {
        let Some(email) = email else { return };
        let is_plain = !email.chars().any(|c| c.is_whitespace() || c.is_control());
        let has_parts = email.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if !is_plain || !has_parts || email.len() > EMAIL_BYTES_MAX {
            self.refuse("email", "must be an email address");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits {
            password_min: 8,
            password_max: 128,
            failed_logins: 5,
            failed_logins_window: Duration::from_secs(900),
            access_token: Duration::from_secs(900),
            refresh_token: Duration::from_secs(900),
            devices_per_user: 20,
        }
    }

    fn register(change: impl FnOnce(&mut Register)) -> Result<(), Vec<String>> {
        let mut request =
            Register { username: "alice".into(), password: "correct horse".into(), email: None, display_name: None };
        change(&mut request);
        let fields = |errors: FieldErrors| errors.into_iter().map(|error| error.field).collect();
        check_registration(&request, &limits()).map_err(fields)
    }

    #[test]
    fn usernames() {
        for good in ["abc", "ABC", "a.b-c_9", "...", &"x".repeat(32)] {
            assert_eq!(register(|request| request.username = good.into()), Ok(()), "{good}");
        }
        for bad in ["", "ab", &"x".repeat(33), "a b", "äbc", "\u{212a}elvin", "a\0c", "a@b", "abc\n"] {
            assert_eq!(register(|request| request.username = bad.into()), Err(vec!["username".into()]), "{bad:?}");
        }
        assert_eq!(normalise_username("AliCE.9"), "alice.9");
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        for good in ["12345678", &"é".repeat(128), &"é".repeat(8)] {
            assert_eq!(register(|request| request.password = good.into()), Ok(()), "{good}");
        }
        for bad in ["", "1234567", &"é".repeat(7), &"x".repeat(129), "12345678\0"] {
            assert_eq!(register(|request| request.password = bad.into()), Err(vec!["password".into()]), "{bad:?}");
        }
    }

    #[test]
    fn optional_fields() {
        for bad in ["", "x", "@", "a@", "@b", "a b@c", "a@b\n", &format!("{}@b", "x".repeat(254))] {
            assert_eq!(register(|request| request.email = Some(bad.into())), Err(vec!["email".into()]), "{bad:?}");
        }
        assert_eq!(register(|request| request.email = Some("a@b.example".into())), Ok(()));
        assert_eq!(register(|request| request.display_name = Some("ж".repeat(64))), Ok(()));
        for bad in ["x".repeat(65), "a\0b".into()] {
            assert_eq!(register(|request| request.display_name = Some(bad)), Err(vec!["display_name".into()]));
        }
    }

    #[test]
    fn every_field_is_named() {
        let errors = register(|request| {
            *request = Register {
                username: String::new(),
                password: String::new(),
                email: Some(String::new()),
                display_name: Some("\0".into()),
            };
        });
        assert_eq!(errors.unwrap_err(), ["username", "password", "email", "display_name"]);
    }

    #[test]
    fn devices() {
        let check = |name: &str, platform: Option<&str>| {
            check_device(&LoginDevice { id: None, name: name.into(), platform: platform.map(Into::into) }).is_ok()
        };
        assert!(check("x", None) && check(&"x".repeat(64), Some(&"x".repeat(32))) && check("x", Some("")));
        assert!(!check("", None) && !check(&"x".repeat(65), None) && !check("\0", None));
        assert!(!check("x", Some(&"x".repeat(33))) && !check("x", Some("\0")));
    }
}
