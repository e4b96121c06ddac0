"""Words of single languages that tell where a line may end."""

from __future__ import annotations

from dataclasses import dataclass


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class LanguageWords:
    """Lists of lower-case words of one language."""

    joined: frozenset[str]
    """Articles, prepositions, possessives: what follows them belongs to them more than anything else."""
    weak: frozenset[str]
    """Pronouns, auxiliaries, conjunctions and the like, which a line should not end with either."""
    openers: frozenset[str]
    """Words that begin a clause or a phrase: the better places to break before."""

    @property
    def functional(self) -> frozenset[str]:
        return self.joined | self.weak | self.openers


_ENGLISH = LanguageWords(
    joined=_set(
        "a an the this that these those my your his her its our their no every each some any of to in on at for with"
        " from by into onto over under between among through without within against toward towards upon across per via"
        " about than as"
    ),
    weak=_set(
        "i you he she we they who whose and or but nor so if because although though while when where which what how"
        " until since unless is are was were be been being am has have had do does did will would can could shall"
        " should may might must not very more most too only just also even i'm you're he's she's it's we're they're"
        " i've you've we've they've i'd you'd he'd she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll"
        " there's that's don't doesn't didn't can't couldn't won't wouldn't isn't aren't wasn't weren't let's there"
        " after before during"
    ),
    openers=_set(
        "and or but nor so if because although though while when where which who whose until since unless that to in"
        " on at for with from by into onto over under between among through without within against toward towards"
        " across about than as after before during"
    ),
)
_PORTUGUESE = LanguageWords(
    joined=_set(
        "o a os as um uma uns umas de do da dos das em no na nos nas num numa por pelo pela pelos pelas para pra ao"
        " aos à às com sem sob sobre entre até desde contra após perante meu minha meus minhas teu tua seu sua seus"
        " suas nosso nossa nossos nossas este esta estes estas esse essa esses essas aquele aquela aqueles aquelas"
        " deste desta desse dessa daquele daquela neste nesta nesse nessa naquele naquela cada todo toda algum alguma"
        " nenhum nenhuma qualquer"
    ),
    weak=_set(
        "e ou nem mas que se porque pois quando onde como enquanto embora eu tu ele ela nós eles elas você vocês me te"
        " lhe lhes é são era eram foi foram ser sendo sido está estão estava estavam estou estar há tem têm tinha"
        " tinham tenho ter havia vai vão vou ia pode podem podia não muito muita mais menos tão já só também quem cujo"
        " cuja antes depois"
    ),
    openers=_set(
        "e ou nem mas que se porque pois quando onde como enquanto embora de do da dos das em no na nos nas num numa"
        " por pelo pela pelos pelas para ao aos à às com sem sob sobre entre até desde contra após é são era foi está"
        " tem"
    ),
)
_SPANISH = LanguageWords(
    joined=_set(
        "el la los las un una unos unas lo de del a al en con por para sin sobre bajo entre desde hasta hacia según"
        " contra tras mi mis tu tus su sus nuestro nuestra nuestros nuestras este esta estos estas ese esa esos esas"
        " aquel aquella aquellos aquellas cada todo toda algún alguna ningún ninguna cualquier"
    ),
    weak=_set(
        "y e o u ni pero sino que si porque pues cuando donde como mientras aunque yo tú él ella nosotros nosotras"
        " ellos ellas usted ustedes me te se le les nos os es son era eran fue fueron ser sido está están estaba"
        " estaban estoy estar hay ha han he hemos había habían va van voy puede pueden podía no muy más menos tan ya"
        " también quien quienes cuyo cuya antes después"
    ),
    openers=_set(
        "y e o u ni pero sino que si porque pues cuando donde como mientras aunque de del a al en con por para sin"
        " sobre bajo entre desde hasta hacia según contra tras es son era fue está"
    ),
)
_FRENCH = LanguageWords(
    joined=_set(
        "le la les l' un une des du de d' à au aux en dans sur sous avec sans pour par chez entre vers contre depuis"
        " jusque pendant ce cet cette ces mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs chaque tout"
        " toute tous toutes quelque quelques aucun aucune"
    ),
    weak=_set(
        "et ou ni mais que qu' qui dont où si quand comme lorsque puisque car donc je j' tu il elle on nous vous ils"
        " elles me m' te t' se s' ne n' y est sont était étaient être été a ont ai as avons avez avait avaient suis es"
        " sommes êtes va vont vais peut peuvent pouvait c'est très plus moins trop aussi avant après parce"
    ),
    openers=_set(
        "et ou ni mais que qui dont où si quand comme lorsque puisque car donc parce de du des à au aux en dans sur"
        " sous avec sans pour par chez entre vers contre depuis pendant est sont était"
    ),
)
_GERMAN = LanguageWords(
    joined=_set(
        "der die das den dem des ein eine einen einem einer eines kein keine keinen keinem keiner in im ins an am ans"
        " auf aus bei beim mit nach von vom zu zum zur für über unter vor hinter neben zwischen durch ohne gegen um bis"
        " seit während wegen mein meine meinen meinem meiner dein deine sein seine seinen seinem seiner ihr ihre ihren"
        " ihrem ihrer unser unsere unseren unserem unserer euer eure dieser diese dieses diesen diesem jeder jede jedes"
        " jeden jedem"
    ),
    weak=_set(
        "und oder aber denn sondern dass daß weil wenn ob als wie obwohl damit nachdem bevor ich du er sie es wir man"
        " ist sind war waren bin bist wird werden wurde wurden hat haben hatte hatten habe kann können konnte muss"
        " müssen soll sollte will wollte sehr mehr so auch nur noch schon zu"
    ),
    openers=_set(
        "und oder aber denn sondern dass daß weil wenn ob als wie obwohl damit nachdem bevor in im an am auf aus bei"
        " beim mit nach von vom zum zur für über unter vor hinter neben zwischen durch ohne gegen um bis seit während"
        " wegen der die das den dem des"
    ),
)
_ITALIAN = LanguageWords(
    joined=_set(
        "il lo la i gli le l' un uno una un' di d' del dello della dei degli delle a al allo alla ai agli alle da dal"
        " dallo dalla dai dagli dalle in nel nello nella nei negli nelle con su sul sullo sulla sui sugli sulle per tra"
        " fra senza verso contro mio mia miei mie tuo tua suo sua suoi sue nostro nostra nostri nostre loro questo"
        " questa questi queste quel quella quello quei quelle ogni"
    ),
    weak=_set(
        "e ed o ma né che se perché poiché quando dove come mentre anche io tu lui lei noi voi essi mi ti si ci vi ne"
        " è sono era erano fu furono essere stato stata sta stanno ha hanno ho abbiamo aveva avevano va vanno può"
        " possono non molto più meno così già chi cui prima dopo"
    ),
    openers=_set(
        "e ed o ma né che se perché poiché quando dove come mentre di del dello della dei degli delle a al alla ai"
        " alle da dal dalla in nel nella nei nelle con su sul sulla per tra fra senza verso contro è sono era"
    ),
)
_WORDS = {
    "en": _ENGLISH,
    "pt": _PORTUGUESE,
    "es": _SPANISH,
    "fr": _FRENCH,
    "de": _GERMAN,
    "it": _ITALIAN,
    "gl": _PORTUGUESE,
}
_UNKNOWN = LanguageWords(frozenset(), frozenset(), frozenset())

TITLES = _set(
    "mr mrs ms dr prof st sr sra srta dra d dña exmo exma mme mlle mm hr fr frl herr sig sigra dott dottssa ing avv"
    " gen col lt sgt capt cmdr maj rev hon gov sen rep pres messrs mt ft eng arq"
)
"""Abbreviations before a name, without the period."""
NUMBERED = _set(
    "no nos nº nr n art fig p pp vol cap pag pág sec ch approx ca tel ext jan feb mar apr jun jul aug sep sept oct nov"
    " dec"
)
"""Abbreviations before a number, and of months."""
INNER = _set("e.g i.e z.b d.h u.a p.ex p.e vs cf bzw al evtl ggf inkl zzgl sog núm avda ud uds o.ä resp")
"""Abbreviations within a sentence."""
CLOSING = _set(
    "jr sr inc ltd co corp etc bros a.m p.m usw u.s u.k u.n ee.uu s.a ltda cia ph.d m.d b.a m.a ave blvd rd dept univ"
    " av str chr jh"
)
"""Abbreviations that may end a sentence, when the next word begins one."""
UNITS = _set(
    "% ‰ ° °c °f km m cm mm kg g mg t l ml cl ha s ms min h hz khz mhz ghz w kw mw kwh v kb mb gb tb mph kmh km/h m²"
    " m³ ft in lb lbs oz mi yd € $ £ ¥ r$ us$ eur usd gbp brl percent per por pour prozent percento cento ciento cent"
    " am pm a.m p.m bc ad o'clock uhr hundred thousand million millions billion billions trillion mil milhão milhões"
    " bilhão bilhões millón millones mille millier milliard milliards tausend mio mrd millionen milliarde milliarden"
    " mila milione milioni miliardo miliardi"
)
"""What stands after a number and belongs to it."""
NUMBER_WORDS = _set(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty"
    " ninety hundred thousand million dois duas três quatro cinco seis sete oito nove dez cem mil dos tres cuatro siete"
    " ocho nueve diez cien deux trois quatre cinq huit neuf dix cent mille zwei drei vier fünf sechs sieben acht neun"
    " zehn hundert tausend due tre quattro sei otto dieci cento mila"
)
PARTICLES = _set(
    "of the de da do dos das del della dello dei di du des la le los las van von der den ten ter el al bin ibn zu af"
)
"""Small words inside a name."""


def words_of(language: str) -> LanguageWords:
    """Returns the lists of `language`, a code such as pt or pt-BR; empty ones for a language without."""
    return _WORDS.get(language.lower().replace("_", "-").partition("-")[0], _UNKNOWN)
