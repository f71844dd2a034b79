package discovery_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/stretchr/testify/require"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
)

// TestVersions shows which versions are in which ranges (V14).
func TestVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		version, wanted string
		in              bool
	}{
		{"1.2.3", "1.2.3", true},
		{"1.2.3", "=1.2.4", false},
		{"1.2.3+build.5", "1.2.3", true},
		{"1.9.0", "^1.2.3", true},
		{"1.2.2", "^1.2.3", false},
		{"2.0.0", "^1.2.3", false},
		{"1.2.9", "~1.2.3", true},
		{"1.3.0", "~1.2.3", false},
		{"1.2.3", "1.x", true},
		{"1.2.3", ">=1.2, <1.3", true},
		{"1.3.0", ">=1.2 <1.3", false},
		{"1.3.0", "1.2 - 1.4", true},
		{"3.0.0", "^1 || ^3", true},
		{"2.0.0", "^1 || ^3", false},
		{"1.2.3", "*", true},
		{"1.2.3", "v1.2", true},

		// A minor of 0.x breaks.
		{"0.2.9", "^0.2.3", true},
		{"0.3.0", "^0.2.3", false},
		{"0.0.4", "^0.0.3", false},

		// Pre-releases only if the range names one.
		{"2.0.0-rc.1", ">=1", false},
		{"2.0.0-rc.1", "*", false},
		{"2.0.0-rc.1", "^2.0.0-0", true},
		{"2.0.0-rc.1", ">=2.0.0-rc.2", false},
		{"2.0.0-rc.10", ">=2.0.0-rc.2", true},
		{"2.0.0-rc.1", "^1.0.0-0 || ^2", false},
		{"2.0.0", "^2.0.0-rc.1", true},
	} {
		reader := market(t, map[string]discovery.Capability{"printer": {Version: test.version}})
		m := find(t, reader, discovery.Criteria{Require: discovery.Terms{Version: test.wanted}})
		require.Equal(t, test.in, len(m) == 1, "%+v", test)
	}
}

// TestMalformedVersions shows that a malformed version is an error at
// registration, and a malformed range an error of the query (V14).
func TestMalformedVersions(t *testing.T) {
	t.Parallel()
	x := newIndex(t, discovery.Options{})
	c := newClient(t, x, "a", nil)
	for _, version := range []string{"1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.-3", "1.2.3-", "1.2.3-01", "1.2.x", "abc", "^1.2.3", " 1.2.3", "99999999999999999999.0.0"} {
		require.ErrorIs(t, c.Provide(discovery.Capability{Name: "pdf", Version: version}), plugbus.ErrInvalid, "%q", version)
	}
	for _, wanted := range []string{"abc", "1.2.3.4", ">", "^", "1 ||", ">>1", "^1.2.3 foo", "~0.0.0", "~>v0.0.0-a", "99999999999999999999"} {
		for _, k := range []discovery.Criteria{{Require: discovery.Terms{Version: wanted}}, {Prefer: discovery.Terms{Version: wanted}}} {
			_, err := c.Find(k)
			require.ErrorIs(t, err, plugbus.ErrInvalid, "%q", wanted)
		}
	}
}

// TestVersionOfClient shows that a capability without a version has that of its
// plugin, if that is one of SemVer.
func TestVersionOfClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ client, own, want string }{
		{"1.2.3", "", "1.2.3"},
		{"1.2.3", "2.0.0", "2.0.0"},
		{"", "2.0.0", "2.0.0"},
		{"spring 2026", "", ""},
		{"v1", "", ""},
	} {
		x := newIndex(t, discovery.Options{})
		c, err := x.Client("a", discovery.ClientOptions{Version: test.client})
		require.NoError(t, err)
		provide(t, c, discovery.Capability{Name: "pdf", Version: test.own})
		require.Equal(t, test.want, x.Snapshot()[0].Capability.Version)
		m := find(t, c, discovery.Criteria{Require: discovery.Terms{Version: "*"}})
		require.Equal(t, test.want != "", len(m) == 1)
	}
}

// FuzzVersions asserts that no text of a plugin is taken for a version or a range
// that it is not: a version is in the range that is itself, and in the range from
// itself on.
func FuzzVersions(f *testing.F) {
	for _, s := range []string{"1.2.3", "0.0.0-a.1+b", "^1.2", "~0.0.0", "1 - 2 || x", ">=1,<2", "1|2"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, version, wanted string) {
		x := newIndex(t, discovery.Options{})
		c := newClient(t, x, "a", nil)
		if err := c.Provide(discovery.Capability{Name: "pdf", Version: version}); err != nil {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
		} else if version != "" {
			_, err := semver.StrictNewVersion(version)
			require.NoError(t, err)
			for _, same := range []string{"=" + version, ">=" + version} {
				if len(same) <= semver.MaxConstraintLen {
					require.Len(t, find(t, c, discovery.Criteria{Require: discovery.Terms{Version: same}}), 1, "%q", same)
				}
			}
		}
		if _, err := c.Find(discovery.Criteria{Require: discovery.Terms{Version: wanted}}); err != nil {
			require.ErrorIs(t, err, plugbus.ErrInvalid)
		}
	})
}

// FuzzRanges compares ranges with what the package comment says of them, in whole
// numbers.
func FuzzRanges(f *testing.F) {
	for _, v := range [][6]uint16{{1, 2, 3, 1, 2, 3}, {0, 2, 9, 0, 2, 3}, {0, 0, 4, 0, 0, 3}, {2, 0, 0, 1, 9, 9}, {0, 0, 0, 0, 0, 0}, {1, 3, 0, 1, 2, 65535}} {
		f.Add(v[0], v[1], v[2], v[3], v[4], v[5], false)
		f.Add(v[0], v[1], v[2], v[3], v[4], v[5], true)
	}
	f.Fuzz(func(t *testing.T, major, minor, patch, toMajor, toMinor, toPatch uint16, pre bool) {
		is, to := []uint16{major, minor, patch}, []uint16{toMajor, toMinor, toPatch}
		version, wanted := fmt.Sprintf("%d.%d.%d", major, minor, patch), fmt.Sprintf("%d.%d.%d", toMajor, toMinor, toPatch)
		if pre {
			version += "-rc.1"
		}
		x := newIndex(t, discovery.Options{})
		c := newClient(t, x, "a", nil)
		provide(t, c, discovery.Capability{Name: "pdf", Version: version})
		order := slices.Compare(is, to)
		for text, in := range map[string]bool{
			"=" + wanted:                    order == 0,
			">" + wanted:                    order > 0,
			">=" + wanted:                   order >= 0,
			"<" + wanted:                    order < 0,
			"<=" + wanted:                   order <= 0,
			"^" + wanted:                    order >= 0 && caret(is, to),
			"~" + wanted:                    order >= 0 && slices.Equal(is[:2], to[:2]),
			"<" + wanted + " || >" + wanted: order != 0,
			fmt.Sprintf("%d.x", toMajor):    major == toMajor,
			"*":                             true,
		} {
			if text == "~0.0.0" {
				continue // It is refused.
			}
			m := find(t, c, discovery.Criteria{Require: discovery.Terms{Version: text}})
			require.Equal(t, in && !pre, len(m) == 1, "%s in %s", version, text)
		}
		if pre { // A range that names one has those of the same release.
			m := find(t, c, discovery.Criteria{Require: discovery.Terms{Version: ">=" + wanted + "-0"}})
			require.Equal(t, order >= 0, len(m) == 1, "%s in >=%s-0", version, wanted)
		}
	})
}

// caret reports whether nothing before the last number that is not 0 differs, and that
// neither: a minor of 0.x breaks.
func caret(is, to []uint16) bool {
	for i := range to {
		if is[i] != to[i] {
			return false
		}
		if to[i] != 0 {
			return true
		}
	}
	return true
}
