import pytest

from handlers.subtitles.breaks import breaks_of
from handlers.subtitles.cues import make_cues
from handlers.subtitles.limits import CueLimits
from handlers.subtitles.words import speech_of
from support.transcripts import segment, spoken, transcript


def broken(text, language="en", cells=42):
    speech = speech_of(transcript(spoken(text, each=0.3, gap=0.05), language=language))
    return [line.text for cue in make_cues(speech, CueLimits(cells=cells)) for line in cue.lines]


def sentences(text, language="en"):
    """`text`, with a bar where a sentence begins."""
    words = speech_of(transcript(spoken(text), language=language)).words
    marked = zip(words, breaks_of(words, language), strict=True)
    return "".join(("|" if i and found.sentence else "") + word.text for i, (word, found) in enumerate(marked)).strip()


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Good evening, Mr. Brown.| I would like you to meet Dr. Smith and Mrs. Jones from the U.S. embassy."),
        ("en", "He moved to the U.S. in May.| She stayed at No. 5 St. James Street."),
        ("en", "We left at 5 p.m. and came back at 9 p.m.| They were asleep."),
        ("en", "J. K. Rowling met George W. Bush.| It rained."),
        ("en", "Bring apples, pears, etc. for the children.| Thanks!| Really?| Yes."),
        ("en", "I paid $1,250.50 for it.| Smith Inc. and Brown Ltd. paid less."),
        ("en", "He joined the U.S. Navy on Jan. 5, 2019, i.e. last year.| It suited him."),
        ("en", "She took her Ph.D. in Rome, vs. two others in Park Ave. near here.| He said no.| I did not."),
        ("pt", "O Sr. Silva falou com a Dra. Souza.| Depois foi embora."),
        ("es", "La Sra. García vive en EE.UU. desde mayo.| Es médica."),
        ("fr", "M. Dupont parle avec Mme. Durand.| Il est tard."),
        ("de", "Herr Dr. Weber kommt z.B. am Montag.| Er bleibt bis 5. Mai hier."),
        ("it", "Il Sig. Rossi vede il Prof. Bianchi.| Sono amici."),
        ("xx", "hello there.| how are you?| fine."),
    ],
)
def test_abbreviations_end_no_sentence(language, text):
    assert sentences(text.replace("|", ""), language) == text


@pytest.mark.parametrize("cells", range(24, 43))
@pytest.mark.parametrize(
    ("language", "text", "whole"),
    [
        ("en", "We asked Mr. Brown and Mary Ann Smith to wait for us there.", ["Mr. Brown", "Mary Ann Smith"]),
        ("en", "The road from New York to Rio de Janeiro is very long indeed.", ["New York", "Rio de Janeiro"]),
        ("en", "The farm sold 12 tons of wheat and 45 % of the barley for $12,500 then.", ["12 tons", "45 %"]),
        ("en", "It took 3 million dollars and five hundred people to build it.", ["3 million dollars", "five hundred"]),
        (
            "en",
            "She flew on Apollo 11 with J. K. Rowling on May 5 of that year.",
            ["Apollo 11", "J. K. Rowling", "May 5"],
        ),
        (
            "pt",
            "A casa de Maria da Silva fica a 25 km de São Paulo, no interior.",
            ["Maria da Silva", "25 km", "São Paulo"],
        ),
        ("es", "El hijo de Juan de la Cruz compró 40 kg de arroz en Buenos Aires.", ["Juan de la Cruz", "40 kg"]),
        ("fr", "La maison de Charles de Gaulle coûte 20 € par jour à Colombey.", ["Charles de Gaulle", "20 €"]),
        ("de", "Das Haus von Otto von Bismarck steht 15 km vor der alten Stadt.", ["Otto von Bismarck", "15 km"]),
        ("it", "La casa di Leonardo da Vinci dista 30 km dalla vecchia città.", ["Leonardo da Vinci", "30 km"]),
    ],
)
def test_names_and_numbers_with_their_units_are_never_broken(language, text, whole, cells):
    lines = broken(text, language, cells)
    assert " ".join(lines) == text
    for part in whole:
        assert any(part in line for line in lines), lines


@pytest.mark.parametrize(
    ("language", "text", "lines"),
    [
        ("en", "Today I want to show you how we restored an old wooden boat.", "an old wooden boat."),
        ("pt", "Hoje quero mostrar a vocês como a gente reformou um barco velho de madeira.", "um barco velho"),
        ("es", "Hoy quiero enseñarles cómo restauramos un barco viejo de madera clara.", "un barco viejo"),
        ("fr", "Je voudrais vous montrer comment nous avons réparé le vieux bateau.", "le vieux bateau."),
        ("fr", "Est-ce que vous saviez vraiment depuis longtemps qu'il y en a plusieurs ?", "qu'il y en a"),
        ("de", "Heute möchte ich euch zeigen, wie wir das alte Boot wieder flott machten.", "das alte Boot"),
        ("it", "Oggi voglio mostrarvi come abbiamo riparato la vecchia barca di legno.", "la vecchia barca"),
    ],
)
def test_no_line_ends_after_an_article(language, text, lines):
    assert any(lines in line for line in broken(text, language)), broken(text, language)


def test_capitals_throughout_show_no_names():
    text = "THE QUICK BROWN FOX JUMPED OVER THE LAZY DOG AND RAN AWAY INTO THE DARK FOREST"
    assert not any(found.bound for found in breaks_of(speech_of(transcript(spoken(text))).words, "en"))


@pytest.mark.parametrize(("pause", "parted"), [(0.25, False), (0.45, False), (0.7, True)])
def test_a_breath_after_initials_ends_no_sentence(pause, parted):
    said = segment([(" the", 0, 0.2), (" U.S.", 0.3, 1), (" Embassy", 1 + pause, 2), (" opened.", 2, 2.5)])
    words = speech_of(transcript(said)).words
    assert breaks_of(words, "en")[2].sentence is parted


def test_a_long_pause_parts_even_a_name():
    speech = speech_of(transcript(spoken("This is Mary"), spoken("Ann Smith speaking", 5.0)))
    assert [cue.text for cue in make_cues(speech)] == ["This is Mary", "Ann Smith speaking"]


@pytest.mark.parametrize("cells", range(16, 43, 2))
@pytest.mark.parametrize(
    ("language", "text", "whole"),
    [
        (
            "ja",
            "プログラミング言語の勉強を始めてから三年が経ちました。",
            ["プログラミング", "勉強を", "三年"],
        ),
        ("zh", "我小的时候经常跟爷爷一起去买豆浆和油条，那时候一碗豆浆只要五毛钱。", ["时候", "爷爷", "豆浆", "油条"]),
        ("th", "วันนี้ผมจะพาทุกคนไปเที่ยวตลาดน้ำที่เก่าแก่ที่สุดในประเทศไทย", ["วันนี้", "ประเทศไทย"]),
    ],
)
def test_scripts_without_spaces_are_not_broken_inside_words(language, text, whole, cells):
    signs = segment([(sign, i * 0.15, i * 0.15 + 0.15) for i, sign in enumerate(text)])
    cues = make_cues(speech_of(transcript(signs, language=language)), CueLimits(cells=cells))
    lines = [line.text for cue in cues for line in cue.lines]
    assert "".join(lines) == text
    for word in whole:
        assert any(word in line for line in lines), lines
