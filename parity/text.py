"""Writes engine/text/testdata: small tokenizers and what Hugging Face's library makes
of sample texts with them. The Go tests compare ids exactly.

    pip install tokenizers==0.22.2
    python parity/text.py "$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt"

The text is Newton's Opticks (public domain), which Go ships.
"""

import json
import pathlib
import sys

import tokenizers as hf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(__file__).resolve().parent.parent / "engine" / "text" / "testdata"

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CAMEL = r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\p{Han}+|\d+|\s+"


def bpe(special=(), **kw):
    return dict(vocab_size=kw.pop("vocab", 700), special_tokens=list(special), initial_alphabet=kw.pop("alphabet", pre_tokenizers.ByteLevel.alphabet()), show_progress=False, **kw)


def gpt2(text):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator([text], trainers.BpeTrainer(**bpe(["<|endoftext|>", "<|pad|>"], vocab=1000)))
    return t


def llama3(text):
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([text], trainers.BpeTrainer(**bpe(["<|begin_of_text|>", "<|end_of_text|>"])))
    # Tokens that no merge makes: ignore_merges must find them.
    doc = json.loads(t.to_str())
    for word in ["Ġunmergeable", "zqxj", "éľ", "ðŁĺĢ"]:
        doc["model"]["vocab"][word] = len(doc["model"]["vocab"])
    t = Tokenizer.from_str(json.dumps(doc))
    t.add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False),
        AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<both>", lstrip=True, rstrip=True, special=True, normalized=False),
        AddedToken("light", single_word=True, normalized=False),
        AddedToken("<|tool", normalized=False),
        AddedToken("<|tool_call|>", normalized=False),
    ])
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))]),
    ])
    return t


def qwen2(text):
    t = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator([text], trainers.BpeTrainer(**bpe(["<|endoftext|>"])))
    t.add_special_tokens([AddedToken("<|im_start|>", special=True, normalized=False), AddedToken("<|im_end|>", special=True, normalized=False)])
    # Looked for in the normalised text, and itself normalised.
    t.add_tokens([AddedToken("<think>", normalized=False), AddedToken("cafe\u0301", normalized=True), AddedToken("na\u00efve", normalized=True, single_word=True)])
    return t


def smollm(text):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([text], trainers.BpeTrainer(**bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], vocab=600)))
    return t


def lower(text):
    """Parts that few files have: rewriting normalisers, a pattern without a scanner of its own, an alphabet with gaps."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\p{Mn}+"), ""), normalizers.Replace("--", "—")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CAMEL), "isolated"), pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.ByteLevel(add_prefix_space=True)])
    t.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("—", "--")])
    t.train_from_iterator([text], trainers.BpeTrainer(**bpe(["<unk>", "<s>", "</s>"], vocab=500, alphabet=[])))
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t


def llama2(text):
    """Byte fallback: characters, not bytes, and one word."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(**bpe(["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)], vocab=700, alphabet=[]))
    t.train_from_iterator([w for line in text.splitlines() for w in line.split(" ")], trainer)
    doc = json.loads(t.to_str())
    doc["added_tokens"] = [a for a in doc["added_tokens"] if not a["content"].startswith("<0x")]
    t = Tokenizer.from_str(json.dumps(doc))
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return t

def bert(text):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator([text], trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


def cased(text):
    t = Tokenizer(models.WordPiece(unk_token="?", continuing_subword_prefix="@"))
    t.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.BertNormalizer(lowercase=False, strip_accents=None, handle_chinese_chars=False), normalizers.NFD(), normalizers.StripAccents()])
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece(prefix="@", cleanup=False)
    t.train_from_iterator([text], trainers.WordPieceTrainer(vocab_size=500, special_tokens=["?", "<cls>", "<sep>"], continuing_subword_prefix="@", show_progress=False))
    t.post_processor = processors.BertProcessing(("<sep>", 2), ("<cls>", 1))
    return t


def unigram(text, **kw):
    trainer = trainers.UnigramTrainer(vocab_size=500, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False, **kw)
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(text.splitlines(), trainer)
    doc = json.loads(t.to_str())
    doc["model"]["vocab"] = [[p, round(s, 3)] for p, s in doc["model"]["vocab"]]
    return doc


def xlmr(text):
    """charsmap.bin is what sentencepiece compiled of a few rules of its own and NFKC's kind."""
    t = Tokenizer.from_str(json.dumps(unigram(text)))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled((OUT / "charsmap.bin").read_bytes()), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    t.decoder = decoders.Metaspace(prepend_scheme="always")
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return t


def albert(text):
    doc = unigram(text)
    doc["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    doc["model"]["byte_fallback"] = True
    t = Tokenizer.from_str(json.dumps(doc))
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.Strip(left=False, right=True), normalizers.Replace("``", '"')])
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$B $A:1 </s>:2", special_tokens=[("</s>", 2)])
    return t


def llama2first(text):
    """As later files of the Llama 2 kind have it: no normaliser, the blank in front of the first piece only."""
    doc = json.loads(llama2(text).to_str())
    t = Tokenizer.from_str(json.dumps(doc))
    t.normalizer = None
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.post_processor = None
    return t


def samples(text):
    return [
        "", " ", "  ", "\n", "\n\n", " \n", "\n ", "\t", "\r\n", "\r\n\r\n  x", "   \n  \n\n   end", "a", "ab", " a", "a ", "  a  b   c    ",
        text[100000:100700], text[:300], text[200000:200500],
        "Hello, world!", "Hello World", "HELLO WORLD", "don't can't I'll we've they're I'm he'd it's", "DON'T CAN'T I'LL WE'VE THEY'RE I'M HE'D IT'S",
        "it'ſ 'ſ 'Ll 'lL 'rE 'R 'v 'x ''s '", "'tis 'twas rock 'n' roll", "the light's daylight light, sunlight light.", "light", "lightlight light",
        "0 1 12 123 1234 12345 123456 1234567", "3.14159 -2.71e-10 0x1F 1,000,000", "٣٤٥ १२३ Ⅷ ½ x² 10²³ ①②③", "2024-01-31T12:34:56.789Z",
        "def f(x: int) -> str:\n    return f\"{x!r:>10}\"\n\n\nclass A:\n\tpass\n", "for (int i = 0; i < n; ++i) { a[i] += b[i] * c; } // sum\n",
        "SELECT * FROM t WHERE a <> 'b''c' AND d LIKE '%x%';", "{\"a\": [1, 2, {\"b\": null}], \"c\": \"\\u00e9\"}", "https://example.org/a/b?c=d&e=f#g", "user@example.org",
        "camelCaseWords HTTPServer XMLHttpRequest snake_case_words", "a_b __init__ ___", "C++ C# F# .NET", "#!/bin/sh\nset -e\n", "$x = @y[0] // ~z ^ `w`",
        "!!!???...", "—–-‐ … “quotes” ‘single’ «guillemets»", "(a)[b]{c}<d>", "== === ====", "!\n!\n\n?\r\n", " !  !! \n !",
        "😀", "😀😃😄", "👩‍👩‍👧‍👦 family", "👍🏽 🇩🇪🇫🇷", "x😀y", "❤️ ♥ ✓", "☃ snow",
        "日本語のテキスト", "中文字符测试。你好,世界!", "한국어 텍스트", "日本 2024年1月", "ＡＢＣ　１２３", "ﾊﾝｶｸ カタカナ", "東京tower東京",
        "café naïve façade", "cafe\u0301 nai\u0308ve", "cafe\u0301s naïves naïve", "Ǆ ǆ ﬁ ﬀ ß ẞ İ ı", "Å \u212b A\u030a", "ἄνθρωπος ΑΘΗΝΑ σοφός ΣΟΦΟΣ", "Привет, мир! ЁЛКА", "שלום עולם", "مرحبا بالعالم ١٢٣", "สวัสดีชาวโลก", "नमस्ते दुनिया", "Tiếng Việt có dấu",
        "a\u0300\u0301\u0302 z\u0335\u0336", "\u0301 leading mark", "e\u0323\u0301 e\u0301\u0323", "\u1100\u1161\u11a8 \uac01", "क़ \u0915\u093c",
        "a\u00a0b\u2003c\u200bd\u3000e\u202ff", "\u0085 nel \u2028 ls \u2029 ps", "\u200d\u200c joiners", "\ufeffbom", "\x00\x01\x1f\x7f control", "\ufffd \ufffc", "\U0001d573\U0001d58a\U0001d591\U0001d591\U0001d594", "\U0010ffff \ue000",
        "<|endoftext|>", "a<|endoftext|>b", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|begin_of_text|>x<|end_of_text|>", "<|endoftext|><|endoftext|> <|pad|>", "<|endoftext", "<s>a</s> <unk>", "<think>\nhm\n</think>",
        "a  <left>  b", "a  <right>  b", "a \n <both> \n b", "  <both><both>  <left>", "x<|tool_call|>y<|tool|>z<|tool", "<0x41><0xE2>",
        "unmergeable unmergeable zqxj azqxj", "a" * 100, "ab" * 60, " " * 90 + "x", "the" * 50, "=" * 120, "\n" * 50, "12" * 40, "—" * 30, "".join(chr(c) for c in range(32, 127)), "".join(chr(c) for c in range(0xa1, 0x180)),
    ]


def splits():
    """Pre-tokenisers by themselves."""
    P = pre_tokenizers
    texts = ["", "a", "--a--b---", "Hey-- you, 12a345!! (ok) ", " x  y\n\nz", "x.y..z.", "¡Sí! $5+€6 a_b ⓐⅷ नमस्ते", "don't 日本 x²½"]
    behaviors = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
    kinds = [P.Split(pattern, b, invert) for pattern in ["-", Regex(r"\d+|[.,!]"), Regex(r"\s+"), Regex(CAMEL), Regex(r"^.|.$")] for b in behaviors for invert in [False, True]]
    kinds += [P.Punctuation(b) for b in behaviors] + [P.Digits(False), P.Digits(True), P.Whitespace(), P.WhitespaceSplit(), P.CharDelimiterSplit("."), P.ByteLevel(True), P.ByteLevel(False, use_regex=False)]
    kinds += [P.Split(Regex(p), b, i) for p in [LLAMA3, QWEN2] for b in behaviors for i in [False, True]]
    kinds += [P.Sequence([P.ByteLevel(False), P.Digits(True)])]
    out = []
    for kind in kinds:
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = kind
        out.append({"config": json.loads(t.to_str())["pre_tokenizer"], "pieces": [[p for p, _ in kind.pre_tokenize_str(s)] for s in texts]})
    return {"texts": texts, "splits": out}


def dump(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


PAIRS = [("What is light?", "The rays of light."), ("", "b"), ("a", ""), ("</s> x", "[SEP] y")]


def record(makers, text, texts):
    golden = {"tokenizers": hf.__version__, "texts": texts, "golden": {}, "pairs": {}, "paired": PAIRS}
    for make in makers:
        made = make(text)
        dump(f"{make.__name__}.json", json.loads(made.to_str()))
        t = Tokenizer.from_file(str(OUT / f"{make.__name__}.json"))
        rows = []
        for s in texts:
            ids, ordinary = t.encode(s).ids, t.encode(s, add_special_tokens=False).ids
            decoded, skipped = t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)
            row = {"ordinary": ordinary}
            if ids != ordinary:
                row["ids"] = ids
            if decoded != s:
                row["text"] = decoded
            if skipped != decoded:
                row["skipped"] = skipped
            rows.append(row)
        golden["golden"][make.__name__] = rows
        golden["pairs"][make.__name__] = [[e.ids, e.type_ids] for a, b in PAIRS for e in [t.encode(a, b)]]
    return golden


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    texts = samples(text)
    dump("golden.json", record([gpt2, llama3, qwen2, smollm, lower, llama2], text, texts))
    dump("golden_pieces.json", record([bert, cased, xlmr, albert, llama2first], text, texts))
    dump("splits.json", splits())


main()
