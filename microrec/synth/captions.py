"""Captions in two languages whose words are those of the video's theme, for worlds where the night makes the vectors.

English or Chinese by the toss of a coin: three words of the theme and two that any theme has, one word in eight of any
theme, an emoji of the theme on every third.
"""

import numpy as np

from microrec.core.array_types import Int64s

ENGLISH = (
    "pasta sauce oven recipe dough frying spices noodles baking kitchen",
    "goal penalty keeper striker offside derby dribble stadium league header",
    "kitten purring whiskers paws meowing tabby fluffy scratching napping litter",
    "chords strumming fretboard acoustic riff tuning picking melody strings amplifier",
    "airport hostel backpack beach passport island sunrise hiking train temple",
    "checkmate bishop opening gambit endgame knight castling rook pawns blunder",
    "choreography spin ballet salsa rhythm hiphop steps twirl tango partner",
    "screwdriver drill leaking hinge plumbing soldering wrench sanding varnish battery",
)
CHINESE = (
    "面条 酱汁 烤箱 食谱 面团 香料 厨房 炒菜 烘焙",
    "进球 点球 门将 前锋 越位 德比 球场 联赛 头球",
    "小猫 打呼噜 胡须 爪子 喵喵叫 虎斑 毛茸茸 打盹 猫砂",
    "和弦 扫弦 指板 原声 调音 拨弦 旋律 琴弦 音箱",
    "机场 青旅 背包 海滩 护照 海岛 日出 徒步 寺庙",
    "将死 主教 开局 弃兵 残局 骑士 易位 城堡 失误",
    "编舞 旋转 芭蕾 萨尔萨 节奏 街舞 舞步 探戈 舞伴",
    "螺丝刀 电钻 漏水 合页 水管 焊接 扳手 打磨 电池",
)
EMOJI = ("🍝", "⚽", "🐱", "🎸", "🌍", "♟", "💃", "🔧")
ANY = (
    "today my first try how with watch this until end please new really about part",
    "今天 我的 第一次 怎么 一起 看到 最后 请 新的 真的 关于 教程",
)
_N_OF_THEME, _N_OF_ANY = 3, 2
_STRAY, _WITH_EMOJI = 0.125, 0.33


def draw(cluster: Int64s, rng: np.random.Generator) -> list[str]:
    """Return a caption for each video.

    Args:
        cluster: of each video; two that are eight apart have the same theme  # [n_videos]
        rng: source of every draw.

    Returns:
        [n_videos]
    """
    return [_caption(int(theme), rng) for theme in cluster % len(EMOJI)]


def _caption(theme: int, rng: np.random.Generator) -> str:
    language = int(rng.integers(2))
    vocabulary = (ENGLISH, CHINESE)[language]
    strayed = rng.random(_N_OF_THEME) < _STRAY
    themes = np.where(strayed, rng.integers(len(EMOJI), size=_N_OF_THEME), theme)
    words = [str(rng.choice(vocabulary[each].split())) for each in themes]
    words += [str(word) for word in rng.choice(ANY[language].split(), size=_N_OF_ANY)]
    text = (" " if language == 0 else "").join(rng.permutation(words).tolist())
    return f"{text} {EMOJI[theme]}" if rng.random() < _WITH_EMOJI else text
