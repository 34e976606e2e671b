//! The state's rows, damaged, for the fuzzer.

use bytes::Bytes;

use super::whole::{Rest, Sum};
use super::{Mark, rows};
use crate::alarm::Alarms;
use crate::auth::AuthState;
use crate::fuzz::Target;
use crate::mvcc::Rev;

pub(crate) fn fuzz_targets() -> Vec<Target> {
    let revs = [(5, 0), (5, 1), (9, 0)].map(|(main, sub)| Rev { main, sub });
    let mut sum = Sum::default();
    revs.iter().for_each(|rev| sum.add(*rev));
    let mut rest = Rest::default();
    rest.grant(7);
    rest.mark(Mark::Membership, b"members");
    let applied = rows::mark_value(Mark::Applied, 9, sum, b"a log id");
    let keys = vec![rows::record(revs[1]), rows::lease(7)];
    vec![
        Target::new("applied mark", vec![applied.to_vec()], |bytes| {
            if let Some((revision, sum, value)) =
                rows::split_mark(Mark::Applied, Bytes::copy_from_slice(bytes))
            {
                assert_eq!(rows::mark_value(Mark::Applied, revision, sum, &value), bytes);
            }
        }),
        Target::new(
            "restored revision",
            vec![rows::restored(9, sum).to_vec()],
            |bytes| {
                let _ = rows::split_restored(Bytes::copy_from_slice(bytes));
            },
        ),
        Target::new(
            "deleted records",
            vec![rows::deleted(sum, &revs).to_vec()],
            |bytes| {
                if let Some((sum, revs)) = rows::split_deleted(Bytes::copy_from_slice(bytes)) {
                    assert_eq!(rows::deleted(sum, &revs), bytes);
                }
            },
        ),
        Target::new("the other rows", vec![rest.encode().to_vec()], |bytes| {
            if let Some(rest) = Rest::decode(bytes) {
                assert_eq!(Rest::decode(&rest.encode()), Some(rest));
            }
        }),
        Target::new(
            "users",
            vec![AuthState::default().encode().unwrap().to_vec()],
            |bytes| {
                drop(AuthState::decode(bytes));
            },
        ),
        Target::new(
            "alarms",
            vec![rows::encode_alarms(&Alarms::default()).unwrap().to_vec()],
            |bytes| {
                drop(rows::decode_alarms(bytes));
            },
        ),
        Target::new("keys of rows", keys, |key| {
            let _ = (rows::record_rev(key), rows::lease_id(key));
        }),
    ]
}
