package main

import (
	"context"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// lateness lets the reporter join when all is done, and shows its report.
func (t *tour) lateness(ctx context.Context) error {
	t.say(`Only now the reporter joins, and asks for the history of "files.*". Then the
reader says that it has come to the end, the counter that it has counted, and the
reporter reports to the host. It has the words from the store of the counter:
`)
	if err := t.hub.Register(ctx, &reporter{}); err != nil {
		return err
	}
	if err := t.hub.Idle(ctx); err != nil { // Until the reporter has read the history.
		return err
	}
	if err := t.ask(ctx, "work.end"); err != nil {
		return err
	}
	var report Report
	select {
	case report = <-t.reports:
	default:
		t.check(false, "the reporter has reported")
		return nil
	}
	t.words(report)
	if len(report.Words.Top) > 0 {
		t.word = report.Words.Top[0]
	}
	replayed, last := report.Seen, Seen{}
	if n := len(replayed); n > 0 {
		replayed, last = replayed[:n-1], replayed[n-1]
	}
	t.check(t.isHistory(replayed), "the history gave the reporter %s of %s files, in their order, with no gap and no duplicate",
		figure(len(replayed)), figure(len(t.in.files)))
	t.check(last.Name == "files.end" && !last.Replayed, "what came next came live: %q", last.Name)
	t.check(report.Chain == "host → reader → counter", "the words know what led to them: %s", report.Chain)
	straight := straightCount(t.in.files)
	t.check(report.Files == len(t.in.files) && reflect.DeepEqual(report.Words, straight), "they are those counted straight from the files, without the hub: %s words, %s of them different",
		figure(straight.Words), figure(straight.Distinct))
	return nil
}

func (t *tour) words(report Report) {
	rows := [][]string{{"word", "times", ""}}
	for _, word := range report.Words.Top {
		bar := max(1, 30*word.Count/report.Words.Top[0].Count)
		rows = append(rows, []string{word.Text, figure(word.Count), strings.Repeat("▪", bar)})
	}
	if len(rows) > 1 {
		t.table(rows...)
	}
}

// isHistory reports whether these are the files, once each, from the history, in
// their order.
func (t *tour) isHistory(seen []Seen) bool {
	return slices.EqualFunc(seen, t.in.files, func(s Seen, f File) bool {
		return s.Name == "files.read" && s.Path == f.Path && s.Replayed
	})
}

// straightCount counts the words as the counter should have, by other means.
func straightCount(files []File) Words {
	counts := map[string]int{}
	word := regexp.MustCompile(`\p{L}+`)
	for _, file := range files {
		for _, found := range word.FindAllString(file.Text, -1) {
			if utf8.RuneCountInString(found) <= maxLetters {
				counts[strings.ToLower(found)]++
			}
		}
	}
	return summary(counts)
}
