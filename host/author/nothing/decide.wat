(func (export "capstan:remedy/decide@0.1.0#decide")
  (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (result i32) (i32.const 64))
(func (export "cabi_post_capstan:remedy/decide@0.1.0#decide") (param i32) (call $reset))
