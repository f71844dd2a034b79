package security

import "time"

// Window is the span over which acts are counted for alerts and usage. It
// trails behind the present, and moves on in twelfths.
const Window = time.Minute

const (
	slots    = 12
	slotTime = Window / slots
)

// A window counts what was admitted and refused in the current slot and the
// eleven before it.
type window struct {
	counts [slots]struct{ admitted, refused uint64 }
}

// add counts in a slot that is not older than the window.
func (w *window) add(slot, admitted, refused int64) {
	c := &w.counts[slot%slots]
	c.admitted += uint64(admitted)
	c.refused += uint64(refused)
}

// roll moves the window on, so that the slot to is its last.
func (w *window) roll(from, to int64) {
	for s := max(from, to-slots) + 1; s <= to; s++ {
		w.counts[s%slots] = struct{ admitted, refused uint64 }{}
	}
}

// sums returns what was counted in the whole window.
func (w *window) sums() (admitted, refused uint64) {
	for _, c := range w.counts {
		admitted += c.admitted
		refused += c.refused
	}
	return admitted, refused
}

// attempts returns how often something was tried in the window.
func (w *window) attempts() uint64 {
	admitted, refused := w.sums()
	return admitted + refused
}
