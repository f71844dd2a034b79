package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// A counter counts the words of all files. Its handlers run one at a time, so it
// needs no lock.
type counter struct {
	hub    *hub.Session
	files  int
	counts map[string]int
}

// Words are the payload of "words.counted".
type Words struct {
	Files    int
	Words    int
	Distinct int
	Top      []Word // the commonest of 6 to 40 letters
}

// A Word is a word and how often it occurs.
type Word struct {
	Text  string
	Count int
}

func (c *counter) Manifest() hub.Manifest {
	return hub.Manifest{ID: "counter", Version: "1.0.0"}
}

func (c *counter) Start(_ context.Context, hub *hub.Session) error {
	c.hub, c.counts = hub, map[string]int{}
	_, err := events.Subscribe(hub, "files.read", c.count)
	if err != nil {
		return err
	}
	_, err = hub.Subscribe("files.end", c.tell)
	return err
}

func (c *counter) count(_ context.Context, file File, _ events.Event) error {
	c.files++
	notLetter := func(r rune) bool { return !unicode.IsLetter(r) }
	for word := range strings.FieldsFuncSeq(file.Text, notLetter) {
		c.counts[strings.ToLower(word)]++
	}
	return nil
}

func (c *counter) tell(ctx context.Context, _ events.Event) error {
	_, err := c.hub.Emit(ctx, "words.counted", summary(c.files, c.counts))
	return err
}

// summary sums up the counts of the words of some files.
func summary(files int, counts map[string]int) Words {
	w := Words{Files: files, Distinct: len(counts)}
	for text, n := range counts {
		w.Words += n
		if letters := utf8.RuneCountInString(text); letters >= 6 && letters <= 40 {
			w.Top = append(w.Top, Word{text, n})
		}
	}
	slices.SortFunc(w.Top, func(a, b Word) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	w.Top = slices.Clone(w.Top[:min(8, len(w.Top))])
	return w
}
