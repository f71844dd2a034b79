package payload

import "unsafe"

// typeWord returns the address of v's type, which is the first of the two words
// of an empty interface. Types do not move, and every plan keeps its type alive,
// so the word identifies the type for as long as a plan is cached. To compare two
// words takes one instruction, to compare two reflect.Types a call.
func typeWord(v any) uintptr { return *(*uintptr)(unsafe.Pointer(&v)) }

// asText returns b as a string without copying it. It is only for bytes that the
// walk has copied, which nobody changes any more.
func asText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
