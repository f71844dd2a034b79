package payload

import (
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"time"

	"github.com/plugbus/plugbus"
)

// text charges and inspects a string. The header of the string is part of the
// value that holds it.
func (w *walk) text(t reflect.Type, s string) *Error {
	if err := w.charge(t, len(s), 1, 0); err != nil {
		return err
	}
	return w.inspect(t, s)
}

// inspect runs the content checks on s.
func (w *walk) inspect(t reflect.Type, s string) *Error {
	if tripped := Scan(s, w.content); tripped != 0 {
		return fault(plugbus.ReasonInvalidContent, t, describe(tripped))
	}
	return nil
}

// describe says which checks a text tripped, without the text.
func describe(tripped plugbus.ContentChecks) string {
	found := ""
	for _, check := range []struct {
		check plugbus.ContentChecks
		what  string
	}{
		{plugbus.CheckScript, "a <script tag"},
		{plugbus.CheckScheme, "a javascript: URL"},
		{plugbus.CheckAttribute, "an on…= attribute inside a tag"},
	} {
		if tripped&check.check == 0 {
			continue
		}
		if found != "" {
			found += " and "
		}
		found += check.what
	}
	return "the text holds " + found + "; send plain text, or have the policy switch this check off"
}

// float refuses what JSON cannot carry and comparisons cannot order.
func (w *walk) float(t reflect.Type, f float64) *Error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fault(plugbus.ReasonInvalidPayload, t, "it is "+strconv.FormatFloat(f, 'g', -1, 64)+
			"; send a finite number, or leave it out")
	}
	return nil
}

// zone inspects the texts that a time or an address refers to: the names of a
// location, the zone of an IPv6 address. In an unexported field they are out of
// reach.
func (w *walk) zone(p *plan, v reflect.Value) *Error {
	if !v.CanInterface() {
		return nil
	}
	var name, short string
	switch x := v.Convert(p.base).Interface().(type) {
	case time.Time:
		loc := x.Location()
		if loc == time.UTC || loc == time.Local {
			return nil
		}
		name = loc.String()
		short, _ = x.Zone()
	case netip.Addr:
		name = x.Zone()
	case netip.AddrPort:
		name = x.Addr().Zone()
	}
	if err := w.inspect(p.typ, short); err != nil {
		return err
	}
	return w.text(p.typ, name)
}

// index is the step of a path to an element.
func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
