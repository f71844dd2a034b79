package plugbus

// SharedValue carries a value that is passed by reference.
type SharedValue struct{ value any }

// Shared wraps a payload so that recipients get v itself, not a copy of it.
// The door then neither copies nor measures nor inspects v: whoever holds it
// can change it under the others. It is refused with ReasonSharedNotGranted
// unless the policy grants it by name, and it never enters the history,
// stores or bridges.
func Shared(v any) SharedValue { return SharedValue{v} }

// Value returns the value that was wrapped.
func (s SharedValue) Value() any { return s.value }
