package compare

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Report is what a run found out.
type Report struct {
	Rounds      int
	Comparisons []Comparison
	Guarantees  []Guarantee // of every side, in the order of their appearance
}

// A Comparison is ours beside one peer in one workload.
type Comparison struct {
	Workload, Peer string
	Ours, Theirs   Figure
	Limit          float64 // of Ratio; 0 means none
}

// A Figure is what one act costs, as the median of all rounds.
type Figure struct {
	Nanos  float64
	Allocs float64 // allocations of all goroutines; not counted for a bound
	Bound  bool    // a fixed time, which nobody measured
}

// A Guarantee says what holds when a side has done its work.
type Guarantee struct{ Side, Text string }

// Ratio returns how many times as long as the peer ours takes.
func (c Comparison) Ratio() float64 { return c.Ours.Nanos / c.Theirs.Nanos }

// OK reports whether ours keeps the limit, or there is none.
func (c Comparison) OK() bool { return c.Limit == 0 || c.Ratio() <= c.Limit }

// OK reports whether all limits are kept.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Comparisons, func(c Comparison) bool { return !c.OK() })
}

// guarantee adds what a side guarantees, once.
func (r *Report) guarantee(s Side) {
	if g := (Guarantee{s.Name, s.Guarantees}); !slices.Contains(r.Guarantees, g) {
		r.Guarantees = append(r.Guarantees, g)
	}
}

// WriteJSON writes an array with an object for each comparison: workload, peer,
// ratio, limit, which is null where there is none, and ok.
func (r *Report) WriteJSON(w io.Writer) error {
	type row struct {
		Workload string   `json:"workload"`
		Peer     string   `json:"peer"`
		Ratio    float64  `json:"ratio"`
		Limit    *float64 `json:"limit"`
		OK       bool     `json:"ok"`
	}
	rows := make([]row, 0, len(r.Comparisons))
	for _, c := range r.Comparisons {
		next := row{Workload: c.Workload, Peer: c.Peer, Ratio: c.Ratio(), OK: c.OK()}
		if c.Limit != 0 {
			next.Limit = &c.Limit
		}
		rows = append(rows, next)
	}
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(rows)
}

// WriteTable writes the comparisons as a table for people, and below it what each
// side guarantees.
func (r *Report) WriteTable(w io.Writer) error {
	to := bufio.NewWriter(w)
	fmt.Fprintf(to, "%s %s/%s, %d CPUs. Medians of %d interleaved rounds, for one act; ratio = ours ÷ theirs, in time.\n\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), r.Rounds)
	rows := [][]string{{"workload", "peer", "ours", "theirs", "ratio", "limit", "ok", "our allocs", "their allocs"}}
	for _, c := range r.Comparisons {
		limit, ok := "-", "-"
		if c.Limit != 0 {
			limit, ok = fmt.Sprintf("%.2f", c.Limit), "yes"
		}
		if !c.OK() {
			ok = "NO"
		}
		rows = append(rows, []string{
			c.Workload, c.Peer, c.Ours.time(), c.Theirs.time(), ratio(c.Ratio()), limit, ok, c.Ours.allocs(), c.Theirs.allocs(),
		})
	}
	align(to, rows, 2)

	fmt.Fprint(to, "\nWhat each side guarantees:\n\n")
	rows = nil
	for _, g := range r.Guarantees {
		rows = append(rows, []string{g.Side, g.Text})
	}
	align(to, rows, 2)
	return to.Flush()
}

// align writes rows in columns: the first few flush left, the others flush right.
func align(to *bufio.Writer, rows [][]string, left int) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			room := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < left {
				line.WriteString(cell + room)
			} else {
				line.WriteString(room + cell)
			}
		}
		fmt.Fprintln(to, strings.TrimRight(line.String(), " "))
	}
}

// time returns the time with three digits that count.
func (f Figure) time() string {
	value, unit := f.Nanos, "ns"
	for _, next := range []string{"µs", "ms", "s"} {
		if value < 999.5 {
			break
		}
		value, unit = value/1000, next
	}
	return digits(value) + " " + unit
}

func (f Figure) allocs() string {
	if f.Bound {
		return "-"
	}
	return fmt.Sprintf("%.1f", f.Allocs)
}

// digits returns a number with three digits that count, or more before the point.
func digits(value float64) string {
	decimals := 0
	for limit := 99.95; value < limit && decimals < 2; limit = 9.995 {
		decimals++
	}
	return fmt.Sprintf("%.*f", decimals, value)
}

// ratio returns a ratio with two digits that count below one, else as digits.
func ratio(value float64) string {
	if value < 0.0995 {
		return fmt.Sprintf("%.2g", value)
	}
	return digits(value)
}

// median returns the middle of the values, or of the two in the middle their mean.
func median(values []float64) float64 {
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
