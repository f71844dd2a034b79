package main

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/store"
)

// A counter counts the words of all files. It keeps the counts in a store, where
// others may read them.
type counter struct {
	hub    *hub.Session
	counts store.TypedView[int] // by word
	files  int
}

// Words sum up what the counter has counted.
type Words struct {
	Words    int
	Distinct int
	Top      []Word // the commonest of 6 letters or more
}

// A Word is a word and how often it occurs.
type Word struct {
	Text  string
	Count int
}

func (c *counter) Manifest() hub.Manifest {
	return hub.Manifest{ID: "counter", Version: "1.0.0"}
}

// maxWords bounds the different words of all files.
const maxWords = 250_000

func (c *counter) Start(ctx context.Context, hub *hub.Session) error {
	counts, err := hub.CreateStore(ctx, "words", store.Config{Read: []string{store.Everyone}, MaxKeys: maxWords})
	if err != nil {
		return err
	}
	c.hub, c.counts = hub, store.Typed[int](counts)
	if _, err = events.Subscribe(hub, "files.read", c.count); err != nil {
		return err
	}
	_, err = hub.Subscribe("files.end", c.tell)
	return err
}

func (c *counter) count(ctx context.Context, file File, _ events.Event) error {
	counts := map[string]int{}
	for word := range words(file.Text) {
		counts[word]++
	}
	for word, n := range counts {
		_, err := c.counts.Modify(ctx, word, func(before int) (int, error) { return before + n, nil })
		if err != nil {
			return err
		}
	}
	c.files++
	return nil
}

func (c *counter) tell(ctx context.Context, _ events.Event) error {
	_, err := c.hub.Emit(ctx, "words.counted", c.files)
	return err
}

// maxLetters bounds a word, and so the key that it is.
const maxLetters = 40

// words returns the words of a text, in lower case. What is longer is none.
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) }) {
			if utf8.RuneCountInString(word) <= maxLetters && !yield(strings.ToLower(word)) {
				return
			}
		}
	}
}

// summary sums up the counts of words.
func summary(counts map[string]int) Words {
	w := Words{Distinct: len(counts)}
	for text, n := range counts {
		w.Words += n
		if utf8.RuneCountInString(text) >= 6 {
			w.Top = append(w.Top, Word{text, n})
		}
	}
	slices.SortFunc(w.Top, func(a, b Word) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	w.Top = slices.Clone(w.Top[:min(8, len(w.Top))])
	return w
}
