package text

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// awkward are characters at the borders of the classes that the patterns tell apart.
var awkward = []rune{
	' ', ' ', ' ', '\t', '\n', '\n', '\r', '\v', '\f', 0x1c, 0x85, 0xa0, 0x1680, 0x180e, 0x2003, 0x200b, 0x2028, 0x3000, 0xfeff,
	'\'', '\'', 's', 'S', 't', 'T', 'r', 'e', 'E', 'v', 'V', 'm', 'l', 'L', 'd', 'a', 'Z', 'é', 'ß', 'K', 'ǅ', 'ʰ', 'ª', 'ı',
	'0', '9', '٣', '²', '½', 'Ⅷ', '①', '一', '〇', 'の', '한', 'ा', 0x301, 0x200d, '_', '-', '!', '$', '€', '😀', 0x10ffff, 0xe000, 0,
}

func anyText() *rapid.Generator[string] {
	char := rapid.OneOf(rapid.SampledFrom(awkward), rapid.SampledFrom(awkward), rapid.Rune())
	return rapid.StringOfN(char, 0, 60, -1)
}

func pieces(p splitter, s string) []string {
	var got []string
	p.split(s, func(piece string) { got = append(got, piece) })
	return got
}

// A scanner cuts every string as its pattern does. The long s is left out: it
// matches (?i:s) in the reference, whose cases golden.json has, but not in regexp2.
func TestScannersAreTheirPatterns(t *testing.T) {
	for name, c := range map[string]struct {
		pattern string
		scanner scanner
	}{"GPT-2": {gpt2Pattern, gpt2Word}, "Llama 3": {llama3Pattern, llama3Word}, "Qwen 2": {qwen2Pattern, qwen2Word}} {
		t.Run(name, func(t *testing.T) {
			re, err := compile("test", c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				s := strings.ReplaceAll(anyText().Draw(t, "text"), "ſ", "s")
				want := pieces(patternSplit{pattern: re, behavior: isolated}, s)
				if got := pieces(c.scanner, s); !slices.Equal(got, want) {
					t.Fatalf("%q: %q, want %q", s, got, want)
				}
			})
		})
	}
}

// Only Removed loses anything, and no piece is empty.
func TestSplitsKeepTheText(t *testing.T) {
	patterns := []pattern{runeIs(isPunctuation), literal("e"), scanner(qwen2Word)}
	for _, expr := range []string{`\s+`, `x*`, `(?=\d)`, `^`} {
		re, err := compile("test", expr)
		if err != nil {
			t.Fatal(err)
		}
		patterns = append(patterns, re)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := anyText().Draw(t, "text")
		p := patternSplit{
			rapid.SampledFrom(patterns).Draw(t, "pattern"),
			rapid.SampledFrom([]behavior{isolated, previous, next, contiguous}).Draw(t, "behavior"),
			rapid.Bool().Draw(t, "invert"),
		}
		got := pieces(p, s)
		if strings.Join(got, "") != s || slices.Contains(got, "") {
			t.Fatalf("%+v: %q became %q", p, s, got)
		}
	})
}

func TestInvalidUTF8BecomesReplacements(t *testing.T) {
	// The examples of the Unicode standard 16.0, tables 3-8 to 3-11, and a cut-off end.
	for in, want := range map[string]string{
		"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41": strings.Repeat("\uFFFD", 8) + "A",
		"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41": strings.Repeat("\uFFFD", 8) + "A",
		"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42": strings.Repeat("\uFFFD", 5) + "A\uFFFD\uFFFDB",
		"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41": strings.Repeat("\uFFFD", 4) + "A",
		"ok\xe2\x82":                           "ok\uFFFD",
		"\xf0\x9f\x98":                         "\uFFFD",
		"\x80 \xf5":                            "\uFFFD \uFFFD",
	} {
		if got := validUTF8(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
