// Package topic is the grammar of the bus: the names of events, topics and
// capabilities, the patterns that match them, plugin ids, and the keys of
// stores with their patterns.
//
//	p, err := topic.Parse("orders.*")
//	if err != nil {
//		return err // says what is wrong, at which byte, and what a pattern is
//	}
//	p.Match("orders.new") // true
//
// # Names
//
// A name is 1 to 255 bytes of valid UTF-8: one to 32 tokens with a separator
// between them, which is ".", ":" or "/". No token is empty. A name holds no
// white space, no control character, no format character (Unicode Cf) and no
// "*". Separators are literal: "a.b" is not "a:b". Names are compared byte by
// byte: case matters, and nothing is normalized. No name is magic; "error" is
// a name like any other.
//
// Names that begin with "plugin:", "hub:", "store:" or "security:" are the
// hub's own, see [Reserved].
//
// # Patterns
//
// A pattern is a name in which "*" may stand for a token. It is always a whole
// token, and matches exactly one. As the last token, "**" matches one or more,
// with any separators between them. The separators of the pattern itself are
// literal, also the one before "**": "a.**" matches "a.b" and "a.b:c", but
// neither "a" nor "a:b". A pattern keeps to the limits of a name.
//
// A pattern that begins with a wildcard leaves out the hub's own names: "**"
// and "*:registered" do not match "plugin:registered"; "plugin:*" does. This
// holds for [Pattern.Match], [Index], [Subset] and [Overlap] alike.
//
// # Keys
//
// A key of a store is 1 to 512 bytes of valid UTF-8 without control characters.
// Its tokens may be empty, may be any number, and may hold white space and "*".
// A pattern of keys matches by the same rule, but no key is the hub's own. Since
// a "*" in a pattern is always a wildcard, no pattern matches only a key that
// has a "*" in it.
//
// # Ids
//
// The id of a plugin is one to 128 ASCII bytes: parts joined by "~", each of
// which begins with a letter or a digit and goes on with letters, digits, "_"
// and "-". Bridges join: "dify~acme~fake" is plugin fake of acme, behind dify.
// So an id is a name of one token, and never a pattern.
//
// # Errors
//
// Every error is an [*Error], and matches plugbus.ErrInvalid.
//
// # Finding all patterns of a name
//
// An [Index] holds values under patterns, and finds those whose pattern matches
// a name at a cost that depends on the name and not on how many patterns there
// are.
package topic
