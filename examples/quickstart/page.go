package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A page is what a person reads: chapters, prose, tables, quotations, and the
// checks with what came of them.
type page struct {
	out      *bufio.Writer
	colours  bool
	chapters int
	checks   int
	failed   []string
}

// newPage returns a page on w, in colours if w is a terminal and NO_COLOR is not
// set.
func newPage(w io.Writer) *page {
	p := &page{out: bufio.NewWriter(w)}
	if file, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		info, err := file.Stat()
		p.colours = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const (
	bold  = "1"
	green = "32"
	red   = "31"
)

func (p *page) paint(colour, text string) string {
	if !p.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// title begins the page.
func (p *page) title(title, format string, args ...any) {
	fmt.Fprintf(p.out, "%s\n\n", p.paint(bold, title))
	p.say(format, args...)
}

// chapter begins a chapter.
func (p *page) chapter(title string) {
	p.chapters++
	fmt.Fprintf(p.out, "\n%s\n\n", p.paint(bold, fmt.Sprintf("%d. %s", p.chapters, title)))
}

// say writes prose, which the caller has broken into lines.
func (p *page) say(format string, args ...any) {
	p.indent("   ", fmt.Sprintf(format, args...))
}

// quote writes the words of another.
func (p *page) quote(text string) {
	p.indent("       ", text)
}

func (p *page) indent(by, text string) {
	for line := range strings.Lines(text + "\n") {
		if strings.TrimSpace(line) != "" {
			line = by + line
		}
		fmt.Fprint(p.out, line)
	}
}

// check writes a claim, and whether it holds.
func (p *page) check(holds bool, format string, args ...any) {
	claim := fmt.Sprintf(format, args...)
	p.checks++
	mark := p.paint(green, "✓")
	if !holds {
		mark = p.paint(red, "✗")
		p.failed = append(p.failed, claim)
	}
	fmt.Fprintf(p.out, "   %s %s\n", mark, claim)
}

// table writes rows with their columns aligned, and those of figures to the
// right. The first row is the head.
func (p *page) table(rows ...[]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	last := rows[len(rows)-1]
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if strings.Trim(last[i], "0123456789,") == "" {
				cell, padding = padding, cell
			}
			line.WriteString("   " + cell + padding)
		}
		fmt.Fprintln(p.out, strings.TrimRight(line.String(), " "))
	}
	fmt.Fprintln(p.out)
}

// verdict ends the page, and reports whether everything held.
func (p *page) verdict() (held bool) {
	fmt.Fprintln(p.out)
	if len(p.failed) == 0 {
		fmt.Fprintln(p.out, p.paint(bold, fmt.Sprintf("All %d checks held.", p.checks)))
		return true
	}
	fmt.Fprintln(p.out, p.paint(bold, fmt.Sprintf("%d of %d checks did not hold:", len(p.failed), p.checks)))
	for _, claim := range p.failed {
		fmt.Fprintf(p.out, "   %s %s\n", p.paint(red, "✗"), claim)
	}
	return false
}

// figure writes a number with its thousands apart.
func figure[T int | uint64](n T) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
