package sim

import "fmt"

// A note is a payload without references: the number of what it came with.
type note struct {
	N     uint64
	Depth int // how many handlers led to it
	Check uint64
}

func newNote(n uint64, depth int) note { return note{n, depth, mix(n, uint64(depth))} }

// A parcel is what one act hands in, and may change afterwards.
type parcel struct {
	data  any
	spoil func()
}

// newParcel returns the payload with a number, in one of several forms.
func newParcel(n uint64, depth int) parcel {
	made := newNote(n, depth)
	switch n % 4 {
	case 0:
		list := []uint64{made.N, uint64(made.Depth), made.Check}
		return parcel{list, func() { clear(list) }}
	case 1:
		fields := map[string]any{"n": made.N, "depth": made.Depth, "check": made.Check, "pad": "some words"}
		return parcel{fields, func() { clear(fields) }}
	default:
		return parcel{made, func() {}}
	}
}

// numberOf returns the number in a payload, which it leaves as it is.
func numberOf(data any) (n uint64, known bool) {
	switch d := data.(type) {
	case note:
		return d.N, true
	case []uint64:
		if len(d) == 3 {
			return d[0], true
		}
	case map[string]any:
		n, known = d["n"].(uint64)
	}
	return n, known
}

// read returns the note that a payload is, and spoils the payload. It reports what
// is no note as it was made.
func read(data any) (note, error) {
	var n note
	switch d := data.(type) {
	case note:
		n = d
	case []uint64:
		if len(d) == 3 {
			n = note{d[0], int(d[1]), d[2]} //nolint:gosec // It was an int.
		}
		clear(d)
	case map[string]any:
		number, _ := d["n"].(uint64)
		depth, _ := d["depth"].(int)
		check, _ := d["check"].(uint64)
		n = note{number, depth, check}
		clear(d)
	}
	if n != newNote(n.N, n.Depth) {
		return n, fmt.Errorf("a payload is not what was handed in: %T %+v", data, n)
	}
	return n, nil
}
