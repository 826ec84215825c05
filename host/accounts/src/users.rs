//! Users in the state file: those that the command line adds, and the passwords of those in the config. All of this
//! blocks.

use super::accounts::{Accounts, ChangeError, Effect};
use super::password;
use super::random;
use super::state::{MAX_USERS, Owner, StoredUser};
use super::view::{Account, View};
use sluicegate_config::{Grants, Secret, User, check_user_name, unknown};
use std::collections::{BTreeMap, BTreeSet};

/// The user that is made if there is none.
pub const FIRST_ADMIN: &str = "admin";

/// A user of config or state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// Name with which the user signs in.
    pub name: String,
    /// Whether it is in the config, which then decides about groups and rights.
    pub in_config: bool,
    /// Whether it can sign in.
    pub has_password: bool,
    /// Names of the groups that the user is in.
    pub groups: Vec<String>,
    /// What it may do, with what its groups may.
    pub grants: Grants,
}

impl Accounts {
    /// All users, by name, without `anonymous`.
    pub fn users(&self) -> Vec<UserInfo> {
        let view = self.inner.view();
        let accounts: BTreeMap<_, _> = view.accounts.iter().collect();
        let user = |(name, account): (&String, &Account)| UserInfo {
            name: name.clone(),
            in_config: account.in_config,
            has_password: account.password.is_some(),
            groups: account.groups.clone(),
            grants: Grants::clone(&account.grants),
        };
        accounts.into_iter().map(user).collect()
    }

    /// Checks that there is a user of this name.
    ///
    /// # Errors
    /// There is no user of this name.
    pub fn check_user(&self, name: &str) -> Result<(), ChangeError> {
        let view = self.inner.view();
        match view.accounts.contains_key(name) {
            true => Ok(()),
            false => Err(no_user(&view, name)),
        }
    }

    /// Whether somebody can sign in.
    pub fn has_passwords(&self) -> bool {
        let view = self.inner.view();
        view.accounts
            .values()
            .any(|account| account.password.is_some())
    }

    /// If nobody has a password, makes the user `admin`, who may do everything, and returns its password, which is kept
    /// nowhere.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn create_first_admin(&self) -> Result<Option<Secret>, ChangeError> {
        if self.has_passwords() {
            return Ok(None);
        }
        let password = random::password()?;
        // It may be there without a password.
        let is_known = self.inner.view().accounts.contains_key(FIRST_ADMIN);
        match is_known {
            true => self.set_password(FIRST_ADMIN, &password)?,
            false => self.add_user(FIRST_ADMIN, Some(&password), Vec::new(), Grants::all())?,
        }
        Ok(Some(password))
    }

    /// Checks whether a user could be added.
    ///
    /// # Errors
    /// As [`Accounts::add_user`], but for the password.
    pub fn check_new_user(&self, name: &str, groups: &[String]) -> Result<(), ChangeError> {
        check_new_user(&self.inner.view(), name, groups)
    }

    /// Adds a user to the state file. Without a password it cannot sign in yet.
    ///
    /// # Errors
    /// Name, password or a group are not valid, the user exists, there are too many, or it cannot be stored.
    pub fn add_user(
        &self,
        name: &str,
        password: Option<&Secret>,
        groups: Vec<String>,
        grants: Grants,
    ) -> Result<(), ChangeError> {
        self.check_new_user(name, &groups)?;
        let password = password.map(hash_password).transpose()?;
        self.inner.change(|state, view| {
            check_new_user(view, name, &groups)?;
            let user = StoredUser {
                password,
                groups,
                grants,
            };
            state.users.insert(name.to_owned(), user);
            Ok(((), Effect::Adds))
        })
    }

    /// Gives a user another password. Its sign-ins end.
    ///
    /// # Errors
    /// There is no such user, its password is in the config, the new one is not valid, or it cannot be stored.
    pub fn set_password(&self, name: &str, password: &Secret) -> Result<(), ChangeError> {
        let password = hash_password(password)?;
        self.inner.change(|state, view| {
            if !view.accounts.contains_key(name) {
                return Err(no_user(view, name));
            }
            let configured = view.settings.users.get(name);
            if configured.is_some_and(|user| user.password.is_some()) {
                let what = format!(
                    "the password of `{name}` is in the config; replace or remove `password` in [users.{name}] there"
                );
                return Err(ChangeError::Invalid(what));
            }
            if state.users.len() >= MAX_USERS && !state.users.contains_key(name) {
                return Err(full());
            }
            let user = state.users.entry(name.to_owned()).or_default();
            user.password = Some(password);
            Ok(((), Effect::Revokes))
        })
    }

    /// Removes a user from the state file, with sign-ins, tokens and links.
    ///
    /// # Errors
    /// There is no such user, it is in the config, or it cannot be stored.
    pub fn remove_user(&self, name: &str) -> Result<(), ChangeError> {
        self.inner.change(|state, view| {
            match view.accounts.get(name) {
                None => return Err(no_user(view, name)),
                Some(account) if account.in_config => {
                    let what = format!(
                        "the user `{name}` is in the config; remove [users.{name}] there, which ends its sign-ins, too"
                    );
                    return Err(ChangeError::Invalid(what));
                }
                Some(_) => {}
            }
            let owner = Owner::Account(name.to_owned());
            state.users.remove(name);
            state.places.remove(name);
            state.sessions.retain(|_, session| !session.owner.is(&owner));
            state.tokens.retain(|_, token| !token.owner.is(&owner));
            state.links.retain(|_, link| !link.owner.is(&owner));
            Ok(((), Effect::Revokes))
        })
    }
}

/// Hashes a password, for `password` under `[users.NAME]` in the config.
///
/// # Errors
/// The password is too short or too long.
pub fn hash_password(password: &Secret) -> Result<Secret, ChangeError> {
    password::check_new(password).map_err(ChangeError::Invalid)?;
    Ok(password::hash(password)?)
}

fn check_new_user(view: &View, name: &str, groups: &[String]) -> Result<(), ChangeError> {
    check_user_name(name)
        .map_err(|what| ChangeError::Invalid(format!("`{}` {what}", name.escape_debug())))?;
    if name == User::ANONYMOUS {
        let what = "`anonymous` is whoever does not sign in; write what everybody may do under [users.anonymous] in the \
                    config";
        return Err(ChangeError::Invalid(what.into()));
    }
    if let Some(known) = view.accounts.get(name) {
        let what = match known.in_config {
            true => {
                "is in the config already, which says what it may do; give it a password with `sluicegate user \
                     passwd`"
            }
            false => {
                "exists already; change its password with `sluicegate user passwd`, or remove it first"
            }
        };
        return Err(ChangeError::Invalid(format!("the user `{name}` {what}")));
    }
    let known = &view.settings.groups;
    if let Some(group) = groups.iter().find(|group| !known.contains_key(*group)) {
        let what = unknown("group", group, known.keys());
        return Err(ChangeError::Invalid(format!(
            "{what}; add [groups.NAME] to the config"
        )));
    }
    match view.state.users.len() >= MAX_USERS {
        true => Err(full()),
        false => Ok(()),
    }
}

fn full() -> ChangeError {
    let what = format!("there are {MAX_USERS} users already; remove those that nobody needs");
    ChangeError::Full(what)
}

fn no_user(view: &View, name: &str) -> ChangeError {
    let names: BTreeSet<&String> = view.accounts.keys().collect();
    ChangeError::NotFound(unknown("user", name, names.iter().copied()))
}
