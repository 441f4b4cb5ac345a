package text

import (
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of added_tokens: a string that is cut out of the text
// before anything else looks at it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only between characters that are no part of a word
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // and after it
	Normalized bool   `json:"normalized"`  // looked for in the normalised text
	Special    bool   `json:"special"`
}

// matcher finds added tokens, the leftmost and of those the longest. It is a trie
// over bytes: edges maps node<<8 | byte to the child.
type matcher struct {
	edges map[uint64]int32
	end   []int32 // by node: the index of the token that ends there, or −1
	first [256]bool
	token []addedToken
}

func newMatcher() *matcher { return &matcher{edges: map[uint64]int32{}, end: []int32{-1}} }

// add makes pattern match as token; the first token of a pattern stays.
func (m *matcher) add(pattern string, token addedToken) {
	if pattern == "" {
		return
	}
	m.first[pattern[0]] = true
	node := int32(0)
	for i := range len(pattern) {
		key := uint64(node)<<8 | uint64(pattern[i])
		next, ok := m.edges[key]
		if !ok {
			next = int32(len(m.end))
			m.end = append(m.end, -1)
			m.edges[key] = next
		}
		node = next
	}
	if m.end[node] < 0 {
		m.end[node] = int32(len(m.token))
		m.token = append(m.token, token)
	}
}

// longest returns the longest token at the start of s and its length.
func (m *matcher) longest(s string) (token *addedToken, length int) {
	node := int32(0)
	for i := range len(s) {
		next, ok := m.edges[uint64(node)<<8|uint64(s[i])]
		if !ok {
			break
		}
		node = next
		if at := m.end[node]; at >= 0 {
			token, length = &m.token[at], i+1
		}
	}
	return token, length
}

// cut calls emit for the pieces of s in order: (id, "") for a token, (−1, text) for
// what stands between.
func (m *matcher) cut(s string, emit func(id int32, piece string)) {
	done := 0 // s[:done] is emitted
	for i := 0; i < len(s); {
		if !m.first[s[i]] {
			i++
			continue
		}
		token, n := m.longest(s[i:])
		if token == nil {
			i++
			continue
		}
		start, stop := i, i+n
		i = stop
		if token.SingleWord && (endsInWord(s[:start]) || startsInWord(s[stop:])) {
			continue
		}
		if token.LStrip {
			for start > done {
				r, n := utf8.DecodeLastRuneInString(s[done:start])
				if !unicode.IsSpace(r) {
					break
				}
				start -= n
			}
		}
		if token.RStrip {
			for stop < len(s) {
				r, n := utf8.DecodeRuneInString(s[stop:])
				if !unicode.IsSpace(r) {
					break
				}
				stop += n
			}
		}
		if done < start {
			emit(-1, s[done:start])
		}
		emit(token.ID, "")
		done = stop
	}
	if done < len(s) {
		emit(-1, s[done:])
	}
}

func endsInWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsInWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

// isWord is \w as the reference's regular expressions have it: alphabetic
// characters, marks, decimal digits, connectors and joiners (UTS 18, annex C).
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc,
		unicode.Other_Alphabetic, unicode.Other_Lowercase, unicode.Other_Uppercase, unicode.Join_Control)
}
