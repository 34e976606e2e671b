//! Whom a container runs as: `user`, `uid`, `user:group`, `uid:gid`, looked up in the image's own files.

use crate::{Error, Result};

/// A process's user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
}

/// Resolves the text of an image or a security context; `passwd` and `group` are the image's files.
pub(crate) fn resolve(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (user, own_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (users, groups) = (lines_of(passwd), lines_of(group));
    let number = |fields: &[&str], at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let (name, uid, gid) = match user.parse::<u32>() {
        _ if user.is_empty() => (None, 0, 0),
        Ok(uid) => {
            let entry = users.iter().find(|fields| number(fields, 2) == Some(uid));
            let gid = entry.and_then(|fields| number(fields, 3)).unwrap_or(0);
            (entry.map(|fields| fields[0]), uid, gid)
        }
        Err(_) => {
            let entry = users.iter().find(|fields| fields[0] == user);
            let ids = entry.and_then(|fields| Some((number(fields, 2)?, number(fields, 3)?)));
            let (uid, gid) = ids.ok_or_else(|| {
                Error::Container(format!("the image's user \"{user}\" is not in its /etc/passwd"))
            })?;
            (Some(user), uid, gid)
        }
    };
    let gid = match own_group {
        None | Some("") => gid,
        Some(text) => match text.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let entry = groups.iter().find(|fields| fields[0] == text);
                entry.and_then(|fields| number(fields, 2)).ok_or_else(|| {
                    Error::Container(format!("the image's group \"{text}\" is not in its /etc/group"))
                })?
            }
        },
    };
    let is_member = |fields: &&Vec<&str>| {
        name.is_some_and(|name| {
            fields
                .get(3)
                .is_some_and(|members| members.split(',').any(|member| member == name))
        })
    };
    let additional_gids = groups
        .iter()
        .filter(is_member)
        .filter_map(|fields| number(fields, 2))
        .collect();
    Ok(User {
        uid,
        gid,
        additional_gids,
    })
}

/// The fields of each line.
fn lines_of(file: &str) -> Vec<Vec<&str>> {
    file.lines().map(|line| line.split(':').collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_in_the_image() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:/bin/false\n";
        let group = "root:x:0:\nweb:x:34:\nlogs:x:4:web,other\n";
        let user = |uid, gid, more: &[u32]| User {
            uid,
            gid,
            additional_gids: more.to_vec(),
        };
        for (text, expected) in [
            ("", user(0, 0, &[])),
            ("web", user(33, 34, &[4])),
            ("33", user(33, 34, &[4])),
            ("1000", user(1000, 0, &[])),
            ("1000:1000", user(1000, 1000, &[])),
            ("web:logs", user(33, 4, &[4])),
        ] {
            assert_eq!(resolve(text, passwd, group).unwrap(), expected, "{text}");
        }
        assert!(
            resolve("nobody", passwd, group)
                .unwrap_err()
                .to_string()
                .contains("\"nobody\"")
        );
        assert!(resolve("web:nogroup", passwd, group).is_err());
    }
}
