#!/usr/bin/env python3
"""What openai/whisper's text normalisers make of tricky texts, and of random sequences of words of numbers.

usage: dump_normalized.py OUT.jsonl
needs: requirements.txt (pip).
A line: {"text", "english"}, and for texts that are not random "basic", "basic_without_diacritics", "basic_letters". Texts on which the reference raises are left out.
"""
import json, random, sys
from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

TEXTS = """
Mr. Smith won't go; he'd been there, she's gone, they'd done it.|I'ma let you finish, y'all. Imma go. Gonna, gotta, wanna.|Uh, um, hmm, mm, mhm, mmm... hummm? Umm.
Dr. Jr. Sr. St. Esq. Capt. Gov. Ald. Gen. Sen. Rep. Pres. Rev. Hon. Asst. Assoc. Lt. Col. Prof. Mrs. Ma'am|It's got to be Sam's, isn't it? Don't. 'Tis. We'll. We've. I'm. You're. let's|he 's been ' s gone 't 'tis can' t
twenty five|twenty-five thousand three hundred and forty-two|one hundred and one|one oh one|nineteen eighty four|nineteen hundred and five|two thousand and twelve|twenty twenty one|double oh seven|triple five double two
the first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth|nineth zeroth twentieth thirty-first hundredth two hundredths millionth|the sixties, the nineteen sixties, in their twenties, 1960s, the 60's|1st 2nd 3rd 4th 11 th 21 st 5 s 6 x
one|ones|the one and only ones|1|1s|1 1|1.5|1.0|$1|1%|11|one one|one two three|five and a half|two and a half million dollars|and a half|half and a half|three thousand and a half percent|oh and a half
$20 million|$1.50|$2 and 7 cents|two dollars and seven cents|seven cents|0.07 dollars|$0.07|$0.5|$0.123|€5.5 billion|£1,234.56|12 pounds and 3 pounds|5 ¢|¢7|a pound of euros|$ 5|US$5|5$|$.50|twenty euros and five cents|$2 ¢123|$0 12
fifty percent|fifty per cent|fifty per person|percent|per cent|%|5%|5 %|%%|a%b|100%!|minus five|negative twenty|plus one|positive|minus|minus and|plus 3.5|minus dollar|-5|+5|5-6|5+6=11
3.14159|three point one four|point five|point|the point is|point hundred|zero point zero five|1.2.3.4|192.168.0.1|one ninety two dot one|ten point five million|1.5 thousand|1.23456 thousand|1.5 hundredths|1.25 thousandths
1,000,000|1,2,3|1,2,3,4,5|12,34|a,b|1, 2|1.|1. 2|.5|..|...|a.b|a.5|5.a|e.g. i.e.|U.S.A.|Hello.World|"quoted" 'single'|rock'n'roll o'clock
one million two hundred thousand three hundred forty five|nine hundred ninety nine decillion|12345678901234567890123456789012345678901234567890 thousand|999999999999999999999999999 million million|one thousand thousand|hundred hundred|million|thousands of millions|a hundred and a thousand
zero|oh|o|oh oh oh|zero zero seven|zero hundred|0 hundred|0 five|0 twenty|0 hundredths|007|007 thousand|0.0|00.50|5.0|5.00 million|10 five|10 eleven|20 eleven|100 eleven|100 twenty|120 twenty|five twenty|twenty ten|twenty twenty|thirteen five|eleven first
five hundred first|five first|twenty first|two twenty first|one two first|point two first|100 first|105 first|100 eleventh|120 eleventh|100 twentieth|five twentieths|1 . 5 fifth|twenties twenty
colour, favourite, organise; centre travelling aluminium|grey cheque programme manoeuvre|COLOUR|colours'|the theatre's analogue|tyre kerb plough draught
[music] Hello <unk> world (laughs) okay ((nested) here) ()|[unclosed (unclosed|<a] b>|[] <> ( )|(a|a) b (c) d)|multi [ line
break ] here|tabs	and  spaces|nbsp and　ideographic thin|sep space
naïve café résumé coöperate Ångström|Œuvre œuvre Æther æther ß ẞ straße Øre øre Đ đ Ð ð Þ þ Łódź|façade jalapeño Zürich smörgåsbord|İstanbul ıI ΣΑΣ ΌΔΟΣ|ﬁne ﬂow ½ ² ³ ① ⅷ Ⅷ ™ © ® ℃ №|ａｂｃ１２３！|e\u0301 n\u0303 mr\u0301 \u0301mr
日本語のテキスト、です。|これは「テスト」です（笑）１２３|我一直抱持著這樣的想法|你好，世界！3.5%|한국어 텍스트입니다.|ภาษาไทยที่นี่|မြန်မာစာ|ລາວ|粵語 唔該|カタカナ ｶﾀｶﾅ ガ が
हिन्दी में पाठ है।|বাংলা|தமிழ்|اَلْعَرَبِيَّة ١٢٣٫٥|١٢٣|١٢٣ thousand|٣.٥|1.٥ million|עברית, בְּרֵאשִׁית|Ελληνικά άέήίόύώ;|Привет, мир! ёлка йод|українська ґ їжак
🙂 emoji 👍🏽 👨‍👩‍👧 family|♪ la la ♪|a_b_c __init__|foo-bar—baz–qux|tel: +1 (555) 123-4567|http://example.com/a?b=c&d=1|user@example.com|#hashtag @handle|C++ C# .NET|AT&T R&D|50/50 24/7|3x 4K 5g a1b2c3|12am 7:30pm|B2B mp3 H2O|x²+y²=z²|10^6|~5|<5 >6|$$$|£€¢|a$b c€|5€ 6£
zero‍joiner two‌non|soft­hyphen|‏rtl‎|\u2019apostrophe: don\u2019t it\u2019s|“smart” ‘quotes’|don`t|rock ' n ' roll|''s|'|' '
Well, uh, I think... no. Um-hmm! Mm-hmm, uh-huh.|he's been and she'd been 's been'|who's who've who'd who'll|ain't shan't mustn't couldn't've|shoulda woulda coulda|lets let's|can't cant|Mr Mrs Ms.|st st. 1 st|St. Paul's 21st St.|No. 1 vs. no. 2|col. 5 gen 3
The meeting is on Saturday, the seventh of September.|Chapter four hundred and four.|It cost three hundred and fifty-five dollars and twenty cents.|Call 1 800 five five five one two one two.|On May 5th, 2021 at 6:45 p.m.|two to the power of ten|forty two point one nine five kilometers|four score and seven years ago|one in a million|a thousand and one nights|the twenty-first century|six sixes are thirty six|twenty four seven|nine one one|one hundred percent|zero degrees minus forty|the year two thousand|two thousand ten|twenty ten|nineteen oh five|ten four|five to ten|two and two is four|hundreds and thousands|second hand third world
"""
WORDS = """zero oh o one two three five nine ten eleven nineteen twenty thirty ninety hundred thousand million decillion ones fives sixes
first second fifth twelfth twenties twentieth hundreds thousandth millionths minus negative plus pound euros dollar dollars cent cents per percent
and and double triple point point a half the cat 0 1 5 07 10 20 100 105 120 1000 1.5 2.50 0.05 .5 3. $5 £0.07 €10 ¢7 $0 5% 1st 5th 60s x1 2y -5 +3 1,000 12,5,7 , . ٣""".split()

english, basic = EnglishTextNormalizer(), BasicTextNormalizer()
plain, letters = BasicTextNormalizer(remove_diacritics=True), BasicTextNormalizer(split_letters=True)
rng = random.Random(0)
texts = [t for block in TEXTS.strip("\n").encode().decode("utf-8").replace("\\u0301", "\u0301").replace("\\u0303", "\u0303").replace("\\u2019", "\u2019").split("\n") for t in block.split("|")]
n_written = len(texts)
texts += ["", " ", "\n", "\t a \x1c b \x1f c \x85 d \xa0 e "] + [" ".join(rng.choices(WORDS, k=rng.randint(2, 9))) for _ in range(1200)]
n_left_out = 0
with open(sys.argv[1], "w") as out:
    for i, text in enumerate(texts):
        try:
            row = dict(text=text, english=english(text))
        except Exception as e:
            n_left_out += 1; print("left out:", repr(text), repr(e)); continue
        if i < n_written: row.update(basic=basic(text), basic_without_diacritics=plain(text), basic_letters=letters(text))
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
print(f"{len(texts) - n_left_out} texts, {n_left_out} left out")
