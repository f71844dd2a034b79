package schema

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"unicode"

	lru "github.com/hashicorp/golang-lru/v2"
)

// A field is a field of a struct as encoding/json shows it.
type field struct {
	name      string
	index     []int // through embedded structs
	tagged    bool
	omitEmpty bool
	omitZero  bool
	quoted    bool // the option "string"
}

// fieldsByType is a cache of the process: what it holds depends on nothing but
// the type.
var fieldsByType = func() *lru.Cache[reflect.Type, []field] {
	cache, _ := lru.New[reflect.Type, []field](1024) // It fails only for a size below 1.
	return cache
}()

// fields returns what encoding/json shows of a struct.
func fields(t reflect.Type) []field {
	if known, ok := fieldsByType.Get(t); ok {
		return known
	}
	found := dominant(candidates(t))
	fieldsByType.Add(t, found)
	return found
}

// An embedding is a struct that is reached through embedded fields.
type embedding struct {
	typ   reflect.Type
	index []int
}

// candidates returns all fields that have a name, level by level of embedding.
func candidates(t reflect.Type) []field {
	var found []field
	level, seen := []embedding{{typ: t}}, map[reflect.Type]bool{}
	for len(level) > 0 {
		var next []embedding
		count := map[reflect.Type]int{}
		for _, e := range level {
			count[e.typ]++
		}
		for _, e := range level {
			if seen[e.typ] {
				continue
			}
			seen[e.typ] = true
			for i := range e.typ.NumField() {
				f, into := read(e.typ.Field(i))
				index := append(slices.Clone(e.index), i)
				if into != nil {
					next = append(next, embedding{into, index})
					continue
				}
				if f.name == "" {
					continue
				}
				f.index = index
				found = append(found, f)
				if count[e.typ] > 1 { // It is there more than once, so that it hides itself.
					found = append(found, f)
				}
			}
		}
		level = next
	}
	return found
}

// read returns what a field's tag says: the field, or the struct whose fields
// stand in its place. A field without a name is not shown.
func read(sf reflect.StructField) (f field, into reflect.Type) {
	elem := sf.Type
	if elem.Name() == "" && elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	isStruct := elem.Kind() == reflect.Struct
	if !sf.IsExported() && (!sf.Anonymous || !isStruct) {
		return field{}, nil
	}
	tag := sf.Tag.Get("json")
	if tag == "-" {
		return field{}, nil
	}
	name, options, _ := strings.Cut(tag, ",")
	if !validName(name) {
		name = ""
	}
	if sf.Anonymous && name == "" && isStruct {
		return field{}, elem
	}
	f = field{name: cmp.Or(name, sf.Name), tagged: name != ""}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "omitempty":
			f.omitEmpty = true
		case "omitzero":
			f.omitZero = true
		case "string":
			k := elem.Kind()
			f.quoted = k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String
		}
	}
	return f, nil
}

// validName reports whether encoding/json takes the name in a tag.
func validName(s string) bool {
	for _, c := range s {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", c) && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return false
		}
	}
	return s != ""
}

// dominant leaves, of the fields of one name, the one that is embedded least
// deep, and of those the only one with a tag; if there are several, none.
func dominant(found []field) []field {
	byName := map[string][]field{}
	for _, f := range found {
		byName[f.name] = append(byName[f.name], f)
	}
	var kept []field
	for _, same := range byName {
		slices.SortStableFunc(same, func(a, b field) int {
			return cmp.Or(cmp.Compare(len(a.index), len(b.index)), -compareBool(a.tagged, b.tagged))
		})
		if len(same) > 1 && len(same[0].index) == len(same[1].index) && same[0].tagged == same[1].tagged {
			continue
		}
		kept = append(kept, same[0])
	}
	slices.SortFunc(kept, func(a, b field) int { return slices.Compare(a.index, b.index) })
	return kept
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
