(func (export "capstan:sidecar/logs@0.1.0#open") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 64))
;; ok, with the very lines, in the answer at 128.
(func (export "capstan:sidecar/logs@0.1.0#on-lines") (param $lines i32) (param $count i32) (result i32)
  (i32.store (i32.const 132) (local.get $lines))
  (i32.store (i32.const 136) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_capstan:sidecar/logs@0.1.0#on-lines") (param i32) (call $reset))
(func (export "capstan:sidecar/logs@0.1.0#flush") (result i32) (i32.const 64))
