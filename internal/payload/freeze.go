package payload

import (
	"fmt"
	"math"
	"reflect"

	"github.com/plugbus/plugbus"
)

// box holds the private copy of a value that recipients must not share.
type box struct {
	value any
	plan  *plan
}

// shared holds what plugbus.Shared wrapped.
type shared struct{ value any }

// Freeze copies v, measures it and inspects every string in it, in one walk by
// the plan of its type and within the budgets of rules; nil rules are the
// default ones. It returns the copy, to be kept and given to [Thaw], and how
// many bytes the data takes.
//
// Its error is an [*Error]. It does not panic.
func Freeze(v any, rules *plugbus.PayloadRules) (frozen any, size int, err error) {
	if v == nil {
		return nil, 0, nil
	}
	if rules == nil {
		rules = &plugbus.PayloadRules{}
	}
	p := plans.of(v)
	if p.op == pass && p.root <= orDefault(rules.MaxBytes, defaultBytes) && p.nodes <= orDefault(rules.MaxNodes, defaultNodes) {
		return v, int(p.root), nil
	}
	return freeze(p, v, rules)
}

// freeze is Freeze for values that need a look.
func freeze(p *plan, v any, rules *plugbus.PayloadRules) (frozen any, size int, err error) {
	defer func() {
		if r := recover(); r != nil {
			frozen, size, err = nil, 0, checkFailed(v, r)
		}
	}()
	if p.op == text {
		if s, ok := v.(string); ok && uint64(len(s)) <= orDefault(rules.MaxBytes, defaultBytes) && Scan(s, rules.Content) == 0 {
			return v, len(s), nil
		}
	}
	if p.typ == sharedType {
		return share(v.(plugbus.SharedValue), rules)
	}
	w := newWalk(rules)
	c, fail := w.whole(p, v)
	if fail != nil {
		return nil, 0, fail.done()
	}
	if !p.fixed {
		c = &box{c, p}
	}
	return c, int(w.bytes), nil
}

func checkFailed(v, r any) *Error {
	return fault(plugbus.ReasonCheckFailed, reflect.TypeOf(v), plugbus.CutText(fmt.Sprint("it cannot be read: ", r))).done()
}

func share(v plugbus.SharedValue, rules *plugbus.PayloadRules) (any, int, error) {
	value := v.Value()
	if !rules.Shared {
		return nil, 0, fault(plugbus.ReasonSharedNotGranted, sharedType,
			"plugbus.Shared needs a grant of the policy; send the value itself, which is copied").done()
	}
	if value == nil {
		return &shared{}, 0, nil
	}
	if refusal := plans.of(value).shareable(); refusal != nil {
		return nil, 0, refusal.done()
	}
	return &shared{value}, 0, nil
}

// Thaw returns what one recipient gets: the value itself if its type holds no
// references or it is shared, and a deep copy of its own otherwise. frozen is
// what Freeze returned; several goroutines may thaw it.
func Thaw(frozen any) any {
	switch f := frozen.(type) {
	case *box:
		w := walk{maxBytes: math.MaxUint64, maxNodes: math.MaxUint64, maxDepth: math.MaxInt, thaw: true}
		c, _ := w.copied(f.plan, f.value) // Freeze has walked it by the same plan.
		return c
	case *shared:
		return f.value
	}
	return frozen
}

// IsShared reports whether frozen came from plugbus.Shared.
func IsShared(frozen any) bool {
	_, ok := frozen.(*shared)
	return ok
}
