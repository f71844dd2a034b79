package main

import (
	"context"
	"time"

	"github.com/plugbus/plugbus/router"
)

// streaming has the student read a part of what has no end.
func (t *tour) streaming(ctx context.Context) error {
	const most = 5
	t.say(`The searcher can tell what is in each line, and begins again after the last one:
this stream has no end. The student reads %d of the lines, as they come, and stops:
`, most)
	lines, err := t.student.read(ctx, most)
	if err != nil {
		return err
	}
	rows := [][]string{{"file", "line", "words"}}
	for _, line := range lines {
		rows = append(rows, []string{line.Path, figure(line.Number), figure(line.Words)})
	}
	t.table(rows...)
	told, err := router.Send[int](ctx, t.student.hub, "searcher", "text.told", nil, router.Timeout(10*time.Second))
	t.check(len(lines) == most && consecutive(lines), "it had %d lines, in their order", len(lines))
	t.check(err == nil && told >= most && told <= most+router.StreamWindow,
		"the searcher stopped too: it had told %d lines, and is never more than %d ahead%s", told, router.StreamWindow, but(err))
	return nil
}

// consecutive reports whether each line is the one after the one before it, or
// the first of a file.
func consecutive(lines []Line) bool {
	last := Line{}
	for _, line := range lines {
		if line.Number != 1 && line != (Line{last.Path, last.Number + 1, line.Words}) {
			return false
		}
		last = line
	}
	return true
}
